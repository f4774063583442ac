// A chart of one dot a model, in the look of the figures: [x, y] of every model in, an SVG element filled.
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [331, 216]; // points, as matplotlib's figures, so that letters have one size
const FRAME = { left: 56, right: WIDTH - 12, top: 10, bottom: HEIGHT - 38 };

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// Round numbers, up to six of them, within [low, high].
function ticks(low, high) {
  const rough = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

// Limits that hold all values, with some air, never of zero width.
function limits(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  const air = Math.max((high - low) * 0.06, 0.002);
  return [low - air, high + air];
}

const scale = ([low, high], from, to) => (value) => from + ((value - low) / (high - low)) * (to - from);

/* Fill `svg`. chart: {x, y: [models] numbers or null, ids, xLimits, yLimits, xShow, yShow: number → text,
   xLabel, yLabel, color: CSS, lines: [{points: [[x, y]], color, kind}], legend?: [{name, color}]}. */
function draw(svg, chart) {
  const x = scale(chart.xLimits, FRAME.left, FRAME.right);
  const y = scale(chart.yLimits, FRAME.bottom, FRAME.top);
  const below = (chart.legend ?? []).length > INSIDE ? LINE * legendColumns(chart.legend).lines + 6 : 0;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT + below}`);
  svg.replaceChildren(axes(chart, x, y), lines(chart, x, y), dots(chart, x, y), legend(chart));
}

function axes(chart, x, y) {
  const group = element("g", { class: "axes" });
  const line = (x1, y1, x2, y2, name) => group.append(element("line", { x1, y1, x2, y2, class: name }));
  const text = (content, at) => group.append(element("text", at, content));
  for (const value of ticks(...chart.xLimits)) {
    line(x(value), FRAME.top, x(value), FRAME.bottom, "grid");
    text(chart.xShow(value), { x: x(value), y: FRAME.bottom + 13, "text-anchor": "middle" });
  }
  for (const value of ticks(...chart.yLimits)) {
    line(FRAME.left, y(value), FRAME.right, y(value), "grid");
    text(chart.yShow(value), { x: FRAME.left - 5, y: y(value) + 3, "text-anchor": "end" });
  }
  line(FRAME.left, FRAME.bottom, FRAME.right, FRAME.bottom, "spine");
  line(FRAME.left, FRAME.top, FRAME.left, FRAME.bottom, "spine");
  const [middle, centre] = [(FRAME.left + FRAME.right) / 2, (FRAME.top + FRAME.bottom) / 2];
  text(chart.xLabel, { x: middle, y: HEIGHT - 8, "text-anchor": "middle" });
  text(chart.yLabel, { transform: `translate(11 ${centre}) rotate(-90)`, "text-anchor": "middle" });
  return group;
}

function lines(chart, x, y) {
  const group = element("g", { class: "lines" });
  for (const { points, color, kind } of chart.lines) {
    const known = points.filter(([a, b]) => a !== null && b !== null);
    const path = known.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ");
    group.append(element("polyline", { points: path, class: kind, style: `stroke: ${color}` }));
  }
  return group;
}

function dots(chart, x, y) {
  const group = element("g", { class: "dots", style: `fill: ${chart.color}` });
  const r = (3 * Math.min(1, (200 / chart.ids.length) ** 0.25)).toFixed(2); // a crowd of smaller ones, as in the figures
  chart.ids.forEach((id, i) => {
    if (chart.x[i] === null || chart.y[i] === null) return;
    const place = { cx: x(chart.x[i]).toFixed(1), cy: y(chart.y[i]).toFixed(1), r };
    group.append(element("circle", { ...place, "data-model": id }));
  });
  return group;
}

// A legend of few entries stands in the frame; a longer one below it, in as many columns as its names allow.
const [INSIDE, LINE, LETTER] = [3, 15, 5.8];

// How many lines its columns take, and where each of them begins.
function legendColumns(entries) {
  for (let across = 3; ; across -= 1) {
    const lines = Math.ceil(entries.length / across);
    const parts = Array.from({ length: across }, (_, i) => entries.slice(i * lines, (i + 1) * lines));
    const widths = parts.map((part) => 36 + LETTER * Math.max(0, ...part.map(({ name }) => name.length)));
    if (across > 1 && widths.reduce((sum, width) => sum + width) > WIDTH - 8) continue;
    return { lines, lefts: widths.map((_, i) => 8 + widths.slice(0, i).reduce((sum, width) => sum + width, 0)) };
  }
}

function legend({ legend: entries = [] }) {
  const group = element("g", { class: "legend" });
  const [{ lines, lefts }, inside] = [legendColumns(entries), entries.length <= INSIDE];
  entries.forEach(({ name, color }, i) => {
    const y = inside ? FRAME.bottom - 10 - LINE * (entries.length - 1 - i) : HEIGHT + 6 + LINE * (i % lines);
    const x1 = inside ? FRAME.left + 8 : lefts[Math.floor(i / lines)];
    const x2 = x1 + 18;
    group.append(element("line", { x1, x2, y1: y - 3, y2: y - 3, style: `stroke: ${color}` }));
    group.append(element("text", { x: x2 + 6, y }, name));
  });
  return group;
}
