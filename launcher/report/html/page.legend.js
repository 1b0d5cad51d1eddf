// The legend: which curve is which, and switches that take them away.
function legend() {
  const element = document.getElementById("legend");
  element.innerHTML = "";
  if (entities().length < 2) return;
  const buttons = report.crossed ? report.factors.flatMap((factor, position) => factorButtons(element, factor, position)) : entityButtons(element);
  const refresh = () => {
    for (const { button, isOn } of buttons) button.setAttribute("aria-pressed", String(isOn()));
    draw();
  };
  for (const { button, isOn, put, alone, has } of buttons) {
    const emphasised = () => entities().filter(has).flatMap((entity) => entity.members);
    button.setAttribute("aria-pressed", String(isOn()));
    button.onclick = () => { put(!isOn()); refresh(); };
    button.ondblclick = () => { alone(); refresh(); };
    button.onpointerenter = () => emphasise(emphasised());
    button.onpointerleave = () => emphasise(null);
  }
  const both = list(element, "both");
  for (const [text, on] of [["All", true], ["None", false]]) {
    legendButton(both, escape(text)).onclick = () => { for (const { put } of buttons) put(on); refresh(); };
  }
}

function entityButtons(element) {
  const all = entities(), items = list(element, "items");
  const put = (entity, on) => { for (const run of entity.members) if (on) view.hidden.delete(run); else view.hidden.add(run); };
  return all.map((entity) => ({
    button: legendButton(items, `${swatch(entity)}<span>${escape(entity.label)}</span>`, entity.label),
    isOn: () => entity.members.some((run) => !view.hidden.has(run)),
    put: (on) => put(entity, on),
    alone: () => { for (const other of all) put(other, other === entity); },
    has: (other) => other.members.some((run) => entity.members.includes(run)),
  }));
}

function factorButtons(element, factor, position) {
  const title = document.createElement("p");
  title.innerHTML = `${escape(factor.key)} <span>${position ? "dash" : "colour"}</span>`;
  element.append(title);
  const items = list(element, "items");
  const put = (value, on) => { if (on) view.off.delete(`${position} ${value}`); else view.off.add(`${position} ${value}`); };
  return factor.values.map((name, value) => ({
    button: legendButton(items, `${position ? swatchOf("var(--muted)", report.dashes[value]) : swatchOf(`var(--c${value})`, [])}<span>${escape(name)}</span>`, name),
    isOn: () => !view.off.has(`${position} ${value}`),
    put: (on) => put(value, on),
    alone: () => { for (const other of factor.values.keys()) put(other, other === value); },
    has: (entity) => valueOf(position, entity) === value,
  }));
}

function list(element, kind) {
  const made = document.createElement("div");
  made.className = kind;
  element.append(made);
  return made;
}
function legendButton(element, content, name = "") {
  const button = document.createElement("button");
  button.type = "button";
  button.innerHTML = content;
  if (name) button.title = `${name}: click to switch on or off, double-click to see it alone`;
  element.append(button);
  return button;
}

function emphasise(runs) {
  for (const svg of document.querySelectorAll(".plot > svg")) {
    svg.classList.toggle("focus", runs !== null);
    for (const group of svg.querySelectorAll(".curve, .end")) group.classList.toggle("on", runs !== null && group.dataset.runs.split(" ").some((run) => runs.includes(Number(run))));
  }
}
