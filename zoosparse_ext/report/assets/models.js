// One model at a time: choose method, step and layer; point at a dot, and the model is marked in every figure.
const source = document.getElementById("models-data");
if (source) explore(JSON.parse(source.textContent));

function explore(study) {
  const share = (whole) => (whole === null ? null : whole / 10000);
  const minus = (text) => text.replace("-", "−");
  const percent = (value, digits = 1) => (value === null ? "–" : minus(`${(100 * value).toFixed(digits)} %`));
  const axisPercent = (value) => minus(`${Number((100 * value).toFixed(2))} %`);
  const points = (value, digits = 1) => {
    const text = minus((100 * value).toFixed(digits));
    return value === null ? "–" : Number((100 * value).toFixed(digits)) > 0 ? `+${text}` : text;
  };
  const axisPoints = (value) => minus(`${value > 1e-9 ? "+" : ""}${Number((100 * value).toFixed(2))}`);

  const { ids, layers, facts } = study;
  const original = study.accuracy.map(share);
  const series = study.series.map(({ name, color, steps }) => ({
    name,
    color,
    steps: steps.map((step) => ({
      label: step.label,
      sparsity: step.sparsity.map(share),
      accuracy: step.accuracy.map(share),
      agreement: step.agreement.map(share),
      layers: step.layers.map((values) => values.map(share)),
      change: step.accuracy.map((value, i) => (value === null ? null : share(value) - original[i])),
    })),
  }));
  const place = new Map(ids.map((id, i) => [id, i]));
  const middle = (values) => {
    const known = values.filter((value) => value !== null).sort((a, b) => a - b);
    return known.length ? (known[(known.length - 1) >> 1] + known[known.length >> 1]) / 2 : null;
  };
  const medians = series.map(({ steps }) => steps.map((step) => [middle(step.sparsity), middle(step.accuracy)]));
  const accuracies = series.flatMap(({ steps }) => steps.flatMap((step) => step.accuracy));

  const section = document.getElementById("models");
  const part = (name) => section.querySelector(`[name="${name}"]`);
  const tip = document.getElementById("tip");
  const chip = document.querySelector("nav .chosen");
  const state = { series: 0, step: 0, layer: 0, chosen: null };
  const now = () => series[state.series];
  const step = () => now().steps[state.step];

  // ---- the four charts -----------------------------------------------------------------------------------
  function charts() {
    const { sparsity, accuracy, agreement, change, layers: byLayer } = step();
    const changeAxis = { label: "change in accuracy, points", show: axisPoints };
    const layer = byLayer[state.layer];
    return {
      accuracy: {
        x: sparsity, y: accuracy, xLimits: [0, 1], yLimits: limits([...accuracies, ...original]),
        xLabel: "sparsity", yLabel: "test accuracy", xShow: axisPercent, yShow: axisPercent, lines: paths(),
        legend: series,
      },
      original: {
        x: original, y: accuracy, xLimits: limits(original), yLimits: limits(accuracy),
        xLabel: "accuracy of the original", yLabel: "accuracy of the twin",
        xShow: axisPercent, yShow: axisPercent, lines: [equality(limits(original), limits(accuracy))],
      },
      agreement: agreement.some((value) => value !== null) && {
        x: change, y: agreement, xLimits: limits(change), yLimits: limits(agreement),
        xLabel: changeAxis.label, yLabel: "equal predictions", xShow: changeAxis.show, yShow: axisPercent, lines: [],
      },
      layer: layer && {
        x: layer, y: change, xLimits: limits(layer), yLimits: limits(change),
        xLabel: `sparsity of ${layers[state.layer]}`, yLabel: changeAxis.label,
        xShow: axisPercent, yShow: changeAxis.show, lines: [],
      },
    };
  }

  // Every series over its steps: the median over models, and the chosen model.
  function paths() {
    const quiet = series.map(({ color }, s) => ({ points: medians[s], color, kind: "median" }));
    if (state.chosen === null) return quiet;
    const own = series.map(({ color, steps }) => ({
      points: steps.map(({ sparsity, accuracy }) => [sparsity[state.chosen], accuracy[state.chosen]]),
      color,
      kind: "own",
    }));
    const level = original[state.chosen];
    return [...quiet, { points: [[0, level], [1, level]], color: "var(--ink)", kind: "level" }, ...own];
  }

  // Where twins are as good as their originals, as far as it runs through the chart.
  function equality([left, right], [low, high]) {
    const [from, to] = [Math.max(left, low), Math.min(right, high)];
    return { points: from < to ? [[from, from], [to, to]] : [], color: "var(--quiet)", kind: "level" };
  }

  function render() {
    for (const [name, chart] of Object.entries(charts())) {
      const figure = section.querySelector(`[data-chart="${name}"]`);
      figure.hidden = !chart;
      if (chart) draw(figure.querySelector("svg"), { ...chart, ids, color: now().color });
    }
    part("step").setAttribute("aria-valuetext", step().label);
    section.querySelector("output").textContent = step().label;
    mark();
    readout();
  }

  // ---- the chosen model ----------------------------------------------------------------------------------
  const rank = (values, i) => 1 + values.filter((value) => value !== null && value > values[i]).length;
  const described = (i) => Object.entries(facts[i]).map(([name, value]) => `${name.replace("_", " ")} ${value}`).join(" · ");

  function readout() {
    const box = section.querySelector(".readout");
    const i = state.chosen;
    chip.hidden = i === null;
    part("model").value = i === null ? "" : ids[i];
    if (i === null) return box.replaceChildren(paragraph("No model chosen. Click a dot in any figure, or type a name above."));
    chip.textContent = `${ids[i]} ×`;
    chip.setAttribute("aria-label", `Forget the chosen model ${ids[i]}`);
    const about = `${percent(original[i])} as the original, rank ${rank(original, i)} of ${ids.length}`;
    const heading = document.createElement("h3");
    heading.textContent = ids[i];
    const scroll = document.createElement("div");
    scroll.className = "scroll";
    scroll.append(twinTable(i));
    box.replaceChildren(heading, paragraph([about, described(i)].filter(Boolean).join(" · ")), scroll);
  }

  // Of every method the twin that is nearest in sparsity to the one in the charts.
  function twinTable(i) {
    const table = document.createElement("table");
    const wanted = step().sparsity[i];
    const row = (cells, tag) => {
      const line = table.insertRow();
      cells.forEach((text, column) => {
        const cell = document.createElement(tag);
        if (column > 1) cell.className = "number";
        cell.textContent = text;
        line.append(cell);
      });
      return line;
    };
    row(["method", "at", "sparsity", "accuracy", "change", "equal", "rank"], "th");
    series.forEach(({ name, steps }, s) => {
      const distance = (one) => (one.sparsity[i] === null ? Infinity : Math.abs(one.sparsity[i] - wanted));
      const near = s === state.series ? step() : steps.reduce((best, one) => (distance(one) < distance(best) ? one : best));
      if (near.accuracy[i] === null) return;
      const cells = [name, near.label, percent(near.sparsity[i]), percent(near.accuracy[i]), points(near.change[i]),
        percent(near.agreement[i]), `${rank(near.accuracy, i)}`];
      row(cells, "td").classList.toggle("current", s === state.series);
    });
    return table;
  }

  function paragraph(text) {
    const made = document.createElement("p");
    made.textContent = text;
    return made;
  }

  // ---- marks in every figure -----------------------------------------------------------------------------
  const figures = [...document.querySelectorAll(".drawing")].filter(
    (drawing) => drawing.closest("[data-chart]") || drawing.querySelector("[data-model]"));
  const dotsOf = (drawing) => [...drawing.querySelectorAll("[data-model]")].map((dot) => ({
    i: place.get(dot.dataset.model), // undefined for a model that is not in the page's data
    x: Number(dot.getAttribute("x") ?? dot.getAttribute("cx")),
    y: Number(dot.getAttribute("y") ?? dot.getAttribute("cy")),
  })).filter(({ i }) => i !== undefined);

  function ring(drawing, model, kind) {
    const svg = drawing.querySelector("svg");
    for (const old of svg.querySelectorAll(`.${kind}`)) old.remove();
    if (model === null) return;
    for (const dot of dotsOf(drawing)) {
      if (dot.i === model) svg.append(element("circle", { cx: dot.x, cy: dot.y, r: 6, class: kind }));
    }
  }

  function mark() {
    for (const drawing of figures) {
      drawing.classList.toggle("marked", state.chosen !== null);
      ring(drawing, state.chosen, "ring");
    }
  }

  function choose(i) {
    state.chosen = i ?? null;
    render();
  }

  // The dot under the pointer or next to it, if there is one within a finger's width.
  function nearest(drawing, event) {
    const svg = drawing.querySelector("svg");
    const matrix = svg.getScreenCTM();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    let best = null;
    let reach = (14 / matrix.a) ** 2;
    for (const dot of dotsOf(drawing)) {
      const distance = (dot.x - at.x) ** 2 + (dot.y - at.y) ** 2;
      if (distance < reach) [best, reach] = [dot, distance];
    }
    return best;
  }

  function point(drawing, event) {
    const dot = nearest(drawing, event);
    ring(drawing, dot?.i ?? null, "hover");
    tip.hidden = !dot;
    drawing.style.cursor = dot ? "pointer" : "";
    if (!dot) return;
    const { i } = dot;
    const twin = `${now().name}, ${step().label}: ${percent(step().accuracy[i])} at ${percent(step().sparsity[i])} sparsity`;
    const lines = [described(i), `original: ${percent(original[i])}`, twin].filter(Boolean);
    const name = document.createElement("strong");
    name.textContent = ids[i];
    tip.replaceChildren(name, ...lines.map(paragraph));
    const { offsetWidth: width, offsetHeight: height } = tip;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${event.clientY + 16 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 16}px`;
  }

  // Arrow keys go from dot to dot, from left to right.
  function walk(drawing, event) {
    const by = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const order = [...new Set(dotsOf(drawing).sort((a, b) => a.x - b.x).map(({ i }) => i))];
    const from = state.chosen === null ? (by > 0 ? -1 : order.length) : order.indexOf(state.chosen);
    choose(order[Math.max(0, Math.min(from + by, order.length - 1))]);
  }

  for (const drawing of figures) {
    drawing.tabIndex = 0;
    drawing.setAttribute("role", "group");
    drawing.ariaLabel += " Arrow keys go from model to model.";
    drawing.addEventListener("pointermove", (event) => point(drawing, event));
    drawing.addEventListener("pointerleave", () => { tip.hidden = true; ring(drawing, null, "hover"); });
    drawing.addEventListener("keydown", (event) => walk(drawing, event));
    drawing.addEventListener("click", (event) => {
      const dot = nearest(drawing, event);
      if (dot) choose(dot.i === state.chosen ? null : dot.i);
    });
  }

  // ---- what the reader chooses ---------------------------------------------------------------------------
  const options = (texts) => texts.map((text, i) => new Option(text, i));

  // The ratio that is nearest to 80 %, where the paper compares methods; the last epoch of variational dropout.
  function start(s) {
    state.series = s;
    const at80 = medians[s].map(([sparsity]) => Math.abs((sparsity ?? 0) - 0.8));
    state.step = series[s].steps[0].label.startsWith("epoch") ? at80.length - 1 : at80.indexOf(Math.min(...at80));
    part("step").max = at80.length - 1;
    part("step").value = state.step;
    part("step").disabled = at80.length === 1;
    render();
  }

  part("series").replaceChildren(...options(series.map(({ name }) => name)));
  part("layer").replaceChildren(...options(layers));
  part("layer").closest("label").hidden = layers.length === 0;
  section.querySelector("datalist").replaceChildren(...ids.map((id) => new Option(id)));
  part("series").addEventListener("change", (event) => start(Number(event.target.value)));
  part("step").addEventListener("input", (event) => { state.step = Number(event.target.value); render(); });
  part("layer").addEventListener("change", (event) => { state.layer = Number(event.target.value); render(); });
  part("model").addEventListener("change", (event) => choose(place.get(event.target.value)));
  section.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  chip.addEventListener("click", () => choose(null));
  document.addEventListener("keydown", (event) => event.key === "Escape" && state.chosen !== null && choose(null));
  section.hidden = false;
  start(0);
}
