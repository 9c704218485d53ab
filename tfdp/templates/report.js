// Draws the charts of a report, with Vega-Embed before it in the same script.
const MISSING = ["undefined", "null", "NaN"];
const SCHEMES = { auto: "light dark", light: "light", dark: "dark" };

function formatTooltip(value, sanitize) {
  const cells = Object.entries(value)
    .filter(([, figure]) => !MISSING.includes(String(figure)))
    .map(([name, figure]) => [sanitize(name), sanitize(String(figure))]);
  const rows = cells.map(
    ([name, figure]) => `<tr><th>${name}</th><td>${figure}</td></tr>`,
  );
  return `<table>${rows.join("")}</table>`;
}

const options = {
  actions: false,
  ast: true, // else Vega would make functions of strings
  defaultStyle: false,
  renderer: "svg",
  tooltip: { disableDefaultStyle: true, formatTooltip, maxDepth: 1 },
};
const charts = JSON.parse(document.getElementById("charts").textContent);
const drawn = Promise.all(
  Object.entries(charts).map(([id, chart]) =>
    vegaEmbed(document.getElementById(id), chart, options),
  ),
);

// The columns of a legend follow the width, and the layout these columns.
async function layOut() {
  const views = (await drawn).map(({ view }) => view);
  await Promise.all(views.map((view) => view.resize().runAsync()));
  document.documentElement.dataset.drawn = views.length;
}
layOut();
let waiting;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(layOut, 200);
});

const toggle = document.getElementById("scheme");
toggle.hidden = false;
toggle.addEventListener("click", () => {
  const names = Object.keys(SCHEMES);
  const next = names[(names.indexOf(toggle.value) + 1) % names.length];
  toggle.value = next;
  toggle.querySelector("span").textContent = next;
  document.documentElement.style.colorScheme = SCHEMES[next];
});
