"use strict";
// Sort a table by the column whose heading was clicked; empty cells always come last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const column = heading.cellIndex;
    const body = heading.closest("table").tBodies[0];
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const sign = ascending ? 1 : -1;
    const rows = [...body.rows].sort((first, second) => {
      const [a, b] = [key(first), key(second)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const difference = Number(a) - Number(b);
      return sign * (Number.isNaN(difference) ? a.localeCompare(b, "en", { numeric: true }) : difference);
    });
    body.append(...rows);
  });
}

// Light or dark: the system's choice until the reader makes another; remembered where the browser allows it.
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const memory = (action) => { try { return action(localStorage); } catch { return null; } };
function show(name) {
  if (name) document.documentElement.dataset.theme = name;
  const isDark = (name ?? (dark.matches ? "dark" : "light")) === "dark";
  theme.textContent = isDark ? "Light page" : "Dark page";
  theme.onclick = () => {
    const chosen = isDark ? "light" : "dark";
    memory((storage) => storage.setItem("zoosparse-theme", chosen));
    show(chosen);
  };
}
theme.hidden = false;
const remembered = memory((storage) => storage.getItem("zoosparse-theme"));
show(remembered);
dark.addEventListener("change", () => show(document.documentElement.dataset.theme));

// Paper shows what is folded away as well.
addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("details")) details.open = true; });

// Mark the question being read.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const id of links.keys()) observer.observe(document.getElementById(id));
