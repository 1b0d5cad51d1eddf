// The page around the charts.
function segments(name, options, chosen, choose) {
  const element = document.createElement("div");
  element.className = "segments";
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", name);
  for (const [value, text] of options) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.dataset.value = value;
    button.setAttribute("aria-pressed", String(value === chosen()));
    button.onclick = () => {
      choose(value);
      for (const other of element.children) other.setAttribute("aria-pressed", String(other.dataset.value === chosen()));
    };
    element.append(button);
  }
  return element;
}
function addSwitch(text, element) {
  const wrapper = document.createElement("div"), title = document.createElement("p");
  wrapper.className = "switch";
  title.textContent = text;
  wrapper.append(title, element);
  document.getElementById("switches").append(wrapper);
}

const figures = [];
const draw = () => figures.forEach((figure) => figure());
function addFigure(id, kind, content, drawing) {
  const figure = document.createElement("figure");
  figure.id = id;
  figure.className = kind;
  figure.innerHTML = content;
  document.getElementById("charts").append(figure);
  figures.push(() => drawing(figure));
  return figure;
}
function addCurves(chart, index) {
  const kind = report.charts.length % 2 && index === 0 ? "wide" : "";
  const figure = addFigure(
    chart.key, kind,
    `<figcaption><div><h2>${escape(chart.title)}</h2><p>${escape(chart.note)}</p></div></figcaption><div class="plots"></div><p class="aside"></p>`,
    (itself) => drawCurves(chart, itself),
  );
  if (!chart.scalable) return;
  const scales = [["linear", "Linear"], ["log", "Log"]];
  const choice = segments(`Scale of ${chart.title}`, scales, () => (view.log[chart.key] ? "log" : "linear"), (scale) => { view.log[chart.key] = scale === "log"; drawCurves(chart, figure); });
  choice.classList.add("scale");
  figure.querySelector("figcaption").append(choice);
}
function addSwitches() {
  addSwitch("Over", segments("Horizontal axis", COLUMNS.map((axis) => [axis, AXES[axis].heading]), () => view.axis, (axis) => { view.axis = axis; draw(); }));
  if (report.seeds) {
    const modes = [["merged", "Mean ± std"], ["single", "Each run"]];
    addSwitch("Seeds", segments("Seeds", modes, () => (view.merged ? "merged" : "single"), (mode) => { view.merged = mode === "merged"; legend(); tables(); draw(); }));
  }
  if (report.factors.length) {
    const choices = [["", "Off"], ...report.factors.map((factor, position) => [String(position), factor.key])];
    addSwitch("Small multiples", segments("Small multiples", choices, () => String(view.multiples ?? ""), (factor) => {
      view.multiples = factor === "" ? null : Number(factor);
      document.getElementById("charts").classList.toggle("stacked", view.multiples !== null);
      draw();
    }));
  }
}

document.getElementById("curves").hidden = false;
document.querySelectorAll(".table table").forEach(sortable);
const copy = document.querySelector(".command button");
if (copy && navigator.clipboard) copy.onclick = () => navigator.clipboard.writeText(copy.previousElementSibling.textContent).then(() => { copy.textContent = "Copied"; });
else if (copy) copy.hidden = true;
addSwitches();
report.charts.forEach(addCurves);
addFigure(
  "step_time", "wide",
  `<figcaption><div><h2>Time per step</h2><p>mean over training, on worker 0; waiting for others is communication</p></div><div class="key">${PARTS.map((part) => `<span><i style="background:var(--part-${part})"></i>${part}</span>`).join("")}</div></figcaption><div class="bars"></div>`,
  drawBars,
);
legend();
tables();
draw();
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
