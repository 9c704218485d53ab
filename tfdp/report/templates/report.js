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
  Object.entries(charts).map(async ([id, chart]) => {
    const place = document.getElementById(id);
    const { view } = await vegaEmbed(place, chart, options);
    return { place, view };
  }),
);

// The number of a legend's columns follows the room that a chart has.
async function layOut() {
  const views = await drawn;
  await Promise.all(
    views.map(({ place, view }) =>
      view.signal("room", place.clientWidth).resize().runAsync(),
    ),
  );
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
