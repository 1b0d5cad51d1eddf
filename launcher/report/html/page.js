"use strict";
(() => {
  const report = JSON.parse(document.getElementById("data").textContent);
  const AXES = report.axes;
  const COLUMN = { step: 0, epoch: 1, time: 2 }, VALUE = 3;
  const MARGIN = { left: 62, right: 14, top: 8, bottom: 36 };
  const view = {
    axis: report.axis,
    merged: report.seeds,
    hidden: new Set(),
    log: Object.fromEntries(report.charts.map((chart) => [chart.key, chart.log])),
  };

  // -- what is drawn: a run, or the runs of a group as one ----------------------------------------------------------
  function entities() {
    return view.merged
      ? report.groups.map((group, index) => ({ ...group, group: index }))
      : report.runs.map((run, index) => ({ ...report.groups[run.group], label: run.label, members: [index], group: run.group }));
  }
  const isVisible = (entity) => entity.members.some((run) => !view.hidden.has(run));

  function curve(chart, entity) {
    const several = view.merged && entity.members.length > 1;
    const band = several ? chart.bands[entity.group] : null;
    if (band) return points(band[view.axis], "x", ["mean", "std", "count"])?.map((row) => ({ ...row, low: row.mean - row.std, high: row.mean + row.std })) ?? null;
    const run = chart.runs[entity.members[0]];
    return run && points({ x: run[COLUMN[view.axis]], mean: run[VALUE] }, "x", ["mean"]);
  }
  function points(columns, x, names) {
    if (!columns) return null;
    const rows = columns[x]
      .map((at, i) => ({ x: at, ...Object.fromEntries(names.map((name) => [name, columns[name][i]])) }))
      .filter((row) => row.x !== null && row.mean !== null);
    return rows.length ? rows.sort((a, b) => a.x - b.x) : null;
  }

  // -- positions -------------------------------------------------------------------------------------------------------
  function place(x) {
    if (view.axis === "step") return `Step ${Math.round(x).toLocaleString("en")}`;
    if (view.axis === "epoch") return `Epoch ${trimmed(x, 4)}`;
    return x < 120 ? `${x.toFixed(1)} s` : x < 7200 ? `${(x / 60).toFixed(1)} min` : `${(x / 3600).toFixed(2)} h`;
  }

  // -- scales -----------------------------------------------------------------------------------------------------
  function linear(low, high, count, base = 10) {
    const raw = (high - low) / count || 1;
    const power = base ** Math.floor(Math.log(raw) / Math.log(base));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(Number((i * step).toPrecision(12)));
    return { ticks, step };
  }
  function valueScale(rows, log, unit) {
    const all = rows.flatMap((row) => [row.mean, row.low, row.high]).filter((value) => value !== undefined && (!log || value > 0));
    let low = Math.min(...all), high = Math.max(...all);
    if (log) {
      if (low === high) { low /= 2; high *= 2; }
      const pad = (Math.log10(high) - Math.log10(low)) * 0.06;
      [low, high] = [low / 10 ** pad, high * 10 ** pad];
      const decades = Math.log10(high / low), every = Math.max(1, Math.ceil(decades / 6)), ticks = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e += 1) {
        if (decades > 2.2) { if (e % every === 0) ticks.push(10 ** e); } else ticks.push(...(decades > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7]).map((f) => f * 10 ** e));
      }
      const inside = ticks.filter((tick) => tick >= low && tick <= high);
      const name = (tick) => (unit === "bytes" ? bytes(tick) : tick >= 1e-3 && tick < 1e4 ? trimmed(tick, 3) : scientific(tick, Number(tick.toPrecision(3)) === 10 ** Math.round(Math.log10(tick)) ? 0 : 1));
      return { at: (value) => Math.log(value / low) / Math.log(high / low), ticks: inside, name };
    }
    if (low === high) { const room = Math.abs(low) * 0.1 || 1; [low, high] = [low - room, high + room]; }
    const pad = (high - low) * 0.06;
    [low, high] = [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
    if (unit === "bytes") low = 0;
    const { ticks, step } = linear(low, high, 4.6);
    let digits = 0;
    while (digits < 8 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits += 1;
    const name = (tick) => (unit === "bytes" ? bytes(tick) : high >= 1e5 || high < 1e-4 ? (tick === 0 ? "0" : scientific(tick, 1)) : tick.toFixed(digits));
    return { at: (value) => (value - low) / (high - low), ticks, name };
  }
  // One for all charts, so that what is above one another happened together. Training begins at 0.
  function positionScale() {
    const ends = report.charts.flatMap((chart) => entities().filter(isVisible).map((entity) => curve(chart, entity)?.at(-1).x ?? 0));
    const low = 0, high = Math.max(...ends) || 1;
    const [unit, name] = view.axis === "time" ? clock(high) : [1, ""];
    const { ticks } = linear(low / unit, high / unit, 6);
    return {
      at: (x) => (x - low) / (high - low),
      back: (share) => low + share * (high - low),
      ticks: ticks.map((tick) => tick * unit),
      name: (tick) => (tick / unit).toLocaleString("en", { maximumFractionDigits: 4 }),
      title: view.axis === "time" ? `Time (${name})` : AXES[view.axis],
    };
  }

  // -- pieces of SVG ----------------------------------------------------------------------------------------------
  const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const colour = (entity) => `var(--c${entity.colour})`;
  const dashes = (entity) => (entity.dash.length ? ` stroke-dasharray="${entity.dash.join(" ")}"` : "");
  const swatch = (entity) =>
    `<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true"><line x1="1" y1="5" x2="21" y2="5" stroke="${colour(entity)}" stroke-width="3" stroke-linecap="${entity.dash.length ? "butt" : "round"}"${dashes(entity)}/></svg>`;
  const path = (rows, x, y) => rows.map((row, i) => `${i ? "L" : "M"}${x(row).toFixed(1)} ${y(row).toFixed(1)}`).join("");

  // -- one chart of curves ------------------------------------------------------------------------------------------
  function drawCurves(chart, figure) {
    const plot = figure.querySelector(".plot"), aside = figure.querySelector(".aside");
    const log = view.log[chart.key];
    const width = plot.clientWidth, height = plot.clientHeight;
    const drawn = [], off = [];
    for (const entity of entities().filter(isVisible)) {
      let rows = curve(chart, entity);
      if (rows && log) {
        const positive = rows.filter((row) => row.mean > 0).map((row) => ({ ...row, low: row.low > 0 ? row.low : row.low === undefined ? undefined : row.mean }));
        if (positive.length < rows.length) off.push(entity.label);
        rows = positive.length ? positive : null;
      }
      if (rows) drawn.push({ entity, rows });
    }
    aside.textContent = off.length ? `Zeros have no place on a logarithmic scale: ${off.slice(0, 3).join(", ")}${off.length > 3 ? " and others" : ""}` : "";
    if (!drawn.length) {
      const any = report.charts.find((one) => one.key === chart.key).runs.some(Boolean);
      plot.innerHTML = `<div class="empty">${off.length ? "All values are 0" : any ? "Nothing is switched on" : "No data yet"}</div>`;
      plot.onpointermove = plot.onpointerleave = null;
      return;
    }
    const xs = positionScale(), ys = valueScale(drawn.flatMap(({ rows }) => rows), log, chart.unit);
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const x = (row) => MARGIN.left + xs.at(row.x) * inner.width;
    const y = (value) => MARGIN.top + (1 - ys.at(value)) * inner.height;
    const bottom = MARGIN.top + inner.height;
    const grid = [
      ...ys.ticks.map((tick) => `<line x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${y(tick).toFixed(1)}" y2="${y(tick).toFixed(1)}"/><text x="${MARGIN.left - 9}" y="${(y(tick) + 4).toFixed(1)}" text-anchor="end">${ys.name(tick)}</text>`),
      `<line class="base" x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${bottom}" y2="${bottom}"/>`,
      ...xs.ticks.map((tick) => `<text x="${x({ x: tick }).toFixed(1)}" y="${bottom + 17}" text-anchor="middle">${xs.name(tick)}</text>`),
      `<text class="axis-name" x="${width - MARGIN.right}" y="${bottom + 32}" text-anchor="end">${xs.title}</text>`,
    ].join("");
    const curves = drawn.map(({ entity, rows }) => {
      const band = rows.length > 1 && rows[0].low !== undefined
        ? `<path class="band" fill="${colour(entity)}" d="${path(rows, x, (row) => y(row.high))}${path([...rows].reverse(), x, (row) => y(row.low)).replace("M", "L")}Z"/>` : "";
      const single = rows.length === 1
        ? `<circle cx="${x(rows[0]).toFixed(1)}" cy="${y(rows[0].mean).toFixed(1)}" r="3.5" fill="${colour(entity)}"/>` : "";
      return `<g class="curve" data-runs="${entity.members.join(" ")}" data-points="${rows.length}">${band}<path class="line" stroke="${colour(entity)}"${dashes(entity)} d="${path(rows, x, (row) => y(row.mean))}"/>${single}</g>`;
    }).join("");
    plot.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(`${chart.title} over ${xs.title}, ${drawn.length} curves`)}" class="${drawn.length > 8 ? "many" : ""}"><g class="grid">${grid}</g>${curves}<g class="over"></g></svg><div class="tip" hidden></div>`;
    hover(plot, chart, drawn, { xs, x, y, inner, bottom, width });
  }

  function nearest(rows, at) {
    let low = 0, high = rows.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (rows[middle].x < at) low = middle; else high = middle; }
    return at - rows[low].x < rows[high].x - at ? rows[low] : rows[high];
  }

  function hover(plot, chart, drawn, { xs, x, y, inner, bottom, width }) {
    const svg = plot.querySelector(":scope > svg"), over = svg.querySelector(".over"), tip = plot.querySelector(".tip");
    const curves = [...svg.querySelectorAll(".curve")];
    plot.onpointerleave = () => { over.innerHTML = ""; tip.hidden = true; svg.classList.remove("focus"); };
    plot.onpointermove = (event) => {
      const box = plot.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
      const at = xs.back(Math.min(1, Math.max(0, (px - MARGIN.left) / inner.width)));
      const slack = 0.02 * (xs.back(1) - xs.back(0));
      const found = drawn
        .map(({ entity, rows }, index) => ({ entity, index, row: nearest(rows, at), ends: [rows[0].x - slack, rows[rows.length - 1].x + slack] }))
        .filter(({ ends }) => at >= ends[0] && at <= ends[1]);
      if (!found.length) { plot.onpointerleave(); return; }
      const away = ({ row }) => Math.abs(y(row.mean) - py);
      const closest = found.reduce((best, one) => (away(one) < away(best) ? one : best));
      const listed = [...found].sort((a, b) => away(a) - away(b)).slice(0, 10).sort((a, b) => b.row.mean - a.row.mean);
      over.innerHTML = `<line class="cursor" x1="${x(closest.row)}" x2="${x(closest.row)}" y1="${MARGIN.top}" y2="${bottom}"/>` + listed.map(({ entity, row }) => `<circle class="spot" cx="${x(row)}" cy="${y(row.mean)}" r="4" fill="${colour(entity)}"/>`).join("");
      const spread = (row) => (row.count === undefined || row.count < 2 || (listed.length > 5 && row !== closest.row) ? "" : `<span class="range">± ${reading(row.std, chart.unit)} std of ${row.count} seeds</span>`);
      tip.innerHTML = `<p class="at">${place(closest.row.x)}</p>` + listed.map((one) => `<div class="${one === closest && found.length > 1 ? "near" : ""}">${swatch(one.entity)}<span class="name">${escape(one.entity.label)}</span><span>${reading(one.row.mean, chart.unit)}</span>${spread(one.row)}</div>`).join("") + (found.length > listed.length ? `<p class="at">and ${found.length - listed.length} more</p>` : "");
      tip.hidden = false;
      const left = x(closest.row) + 16 + tip.offsetWidth > width ? x(closest.row) - tip.offsetWidth - 16 : x(closest.row) + 16;
      tip.style.left = `${Math.max(0, Math.min(width - tip.offsetWidth, left))}px`;
      tip.style.top = `${Math.max(0, Math.min(bottom - tip.offsetHeight, py - tip.offsetHeight / 2))}px`;
      svg.classList.toggle("focus", drawn.length > 8 && away(closest) < 30);
      curves.forEach((group, index) => group.classList.toggle("on", index === closest.index));
    };
  }

  // -- where a step's time goes ---------------------------------------------------------------------------------------
  const PARTS = ["data", "compute", "communication"];
  function drawBars(figure) {
    const place = figure.querySelector(".bars");
    const rows = entities().filter(isVisible).map((entity) => ({ entity, parts: mean(entity.members.map((run) => report.step_time_ms[run]).filter(Boolean)) })).filter(({ parts }) => parts);
    if (!rows.length) {
      place.innerHTML = `<div class="plot"><div class="empty">${report.step_time_ms.some(Boolean) ? "Nothing is switched on" : "No data yet"}</div></div>`;
      return;
    }
    const width = place.clientWidth, longest = Math.max(...rows.map(({ entity }) => entity.label.length));
    const above = width < 560, label = above ? 0 : Math.min(width * 0.34, 44 + longest * 7.2), room = width - label - 70;
    const pitch = above ? 46 : rows.length > 16 ? 24 : 32, bar = rows.length > 16 ? 14 : 18;
    const total = ({ parts }) => PARTS.reduce((sum, part) => sum + parts[part], 0);
    const most = Math.max(...rows.map(total)) || 1;
    const lines = rows.map((row, index) => {
      const top = index * pitch, middle = top + (above ? 32 : pitch / 2), most_signs = Math.floor(((above ? width : label) - 40) / 6.9);
      const name = row.entity.label.length > most_signs ? `${row.entity.label.slice(0, most_signs - 1)}…` : row.entity.label;
      let from = label;
      const bars = PARTS.map((part) => {
        const long = (row.parts[part] / most) * room, begin = from;
        from += long;
        const text = long > 46 ? `<text class="inside" x="${begin + long / 2}" y="${middle + 4}" text-anchor="middle" style="fill:var(--on-${part})">${milliseconds(row.parts[part])}</text>` : "";
        return `<rect x="${begin.toFixed(1)}" y="${middle - bar / 2}" width="${Math.max(0, long - (long > 3 ? 1 : 0)).toFixed(1)}" height="${bar}" rx="2" fill="var(--part-${part})"><title>${part} ${milliseconds(row.parts[part])} ms</title></rect>${text}`;
      }).join("");
      const text_y = above ? top + 16 : middle + 4;
      return `<g class="bar" data-runs="${row.entity.members.join(" ")}"><line x1="1" x2="19" y1="${text_y - 4}" y2="${text_y - 4}" stroke="${colour(row.entity)}" stroke-width="3" stroke-linecap="${row.entity.dash.length ? "butt" : "round"}"${dashes(row.entity)}/><text class="label" x="29" y="${text_y}">${escape(name)}<title>${escape(row.entity.label)}</title></text>${bars}<text x="${from + 8}" y="${middle + 4}">${milliseconds(total(row))} ms</text></g>`;
    }).join("");
    const height = rows.length * pitch + 4;
    place.innerHTML = `<svg viewBox="0 0 ${width} ${height}" height="${height}" role="img" aria-label="Time per step">${lines}</svg>`;
  }
  function mean(several) {
    if (!several.length) return null;
    return Object.fromEntries(PARTS.map((part) => [part, several.reduce((sum, parts) => sum + parts[part], 0) / several.length]));
  }

  // -- the page around them -------------------------------------------------------------------------------------------
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
  function withLabel(text, element) {
    const wrapper = document.createElement("div");
    wrapper.className = "switch";
    wrapper.append(text, element);
    return wrapper;
  }

  const figures = [];
  function build() {
    const charts = document.getElementById("charts"), switches = document.getElementById("switches");
    switches.append(withLabel("Over", segments("Horizontal axis", Object.entries(AXES), () => view.axis, (axis) => { view.axis = axis; draw(); })));
    if (report.seeds) {
      const modes = [["merged", "Mean ± std"], ["single", "Each run"]];
      switches.append(withLabel("Seeds", segments("Seeds", modes, () => (view.merged ? "merged" : "single"), (mode) => { view.merged = mode === "merged"; legend(); tables(); draw(); })));
    }
    for (const chart of report.charts) {
      const figure = document.createElement("figure");
      figure.id = chart.key;
      figure.innerHTML = `<figcaption><div><h2>${escape(chart.title)}</h2><p>${escape(chart.note)}</p></div></figcaption><div class="plot"></div><p class="aside"></p>`;
      if (chart.scalable) {
        const scales = [["linear", "Linear"], ["log", "Log"]];
        const choice = segments(`Scale of ${chart.title}`, scales, () => (view.log[chart.key] ? "log" : "linear"), (scale) => { view.log[chart.key] = scale === "log"; drawCurves(chart, figure); });
        choice.classList.add("scale");
        figure.querySelector("figcaption").append(choice);
      }
      charts.append(figure);
      figures.push(() => drawCurves(chart, figure));
    }
    const bars = document.createElement("figure");
    bars.id = "step_time";
    bars.className = "wide";
    bars.innerHTML = `<figcaption><div><h2>Time per step</h2><p>mean over training, on worker 0; waiting for others is communication</p></div><div class="key">${PARTS.map((part) => `<span><i style="background:var(--part-${part})"></i>${part}</span>`).join("")}</div></figcaption><div class="bars"></div>`;
    charts.append(bars);
    figures.push(() => drawBars(bars));
  }
  const draw = () => figures.forEach((figure) => figure());

  function legend() {
    const element = document.getElementById("legend"), all = entities();
    element.innerHTML = "";
    if (all.length < 2) return;
    for (const entity of all) {
      const button = document.createElement("button");
      button.type = "button";
      button.innerHTML = `${swatch(entity)}<span>${escape(entity.label)}</span>`;
      button.title = `${entity.label}: click to switch on or off, double-click to see it alone`;
      button.setAttribute("aria-pressed", String(isVisible(entity)));
      button.onclick = () => { toggle(entity.members, isVisible(entity)); refresh(); };
      button.ondblclick = () => { toggle(all.flatMap((other) => other.members), true); toggle(entity.members, false); refresh(); };
      button.onpointerenter = () => emphasise(entity.members);
      button.onpointerleave = () => emphasise(null);
      element.append(button);
    }
    for (const [text, hide] of [["All", false], ["None", true]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "plain";
      button.textContent = text;
      button.onclick = () => { toggle(all.flatMap((entity) => entity.members), hide); refresh(); };
      element.append(button);
    }
    function refresh() {
      all.forEach((entity, index) => element.children[index].setAttribute("aria-pressed", String(isVisible(entity))));
      draw();
    }
  }
  function toggle(runs, hide) {
    for (const run of runs) if (hide) view.hidden.add(run); else view.hidden.delete(run);
  }
  function emphasise(runs) {
    for (const svg of document.querySelectorAll(".plot > svg")) {
      svg.classList.toggle("focus", runs !== null);
      for (const group of svg.querySelectorAll(".curve")) group.classList.toggle("on", runs !== null && group.dataset.runs.split(" ").some((run) => runs.includes(Number(run))));
    }
  }

  function tables() {
    for (const table of document.querySelectorAll(".table")) table.hidden = report.seeds && (table.dataset.mode === "merged") !== view.merged;
  }
  function sortable(table) {
    const body = table.tBodies[0];
    table.tHead.querySelectorAll("th").forEach((head, column) => {
      head.querySelector("button").onclick = () => {
        const up = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : head.dataset.first === "ascending";
        table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.value ?? "";
        const order = (a, b) => {
          const [one, other] = [value(a), value(b)];
          if (one === "" || other === "") return (one === "") - (other === "");  // the unknown comes last either way
          const both = [Number(one), Number(other)];
          return (up ? 1 : -1) * (both.some(Number.isNaN) ? one.localeCompare(other, "en", { numeric: true }) : both[0] - both[1]);
        };
        body.append(...[...body.rows].sort(order));
      };
    });
    for (const row of body.rows) {
      row.onpointerenter = () => emphasise(row.dataset.runs.split(" ").map(Number));
      row.onpointerleave = () => emphasise(null);
    }
  }

  document.getElementById("curves").hidden = false;
  document.querySelectorAll(".table table").forEach(sortable);
  const copy = document.querySelector(".command button");
  if (copy && navigator.clipboard) copy.onclick = () => navigator.clipboard.writeText(copy.previousElementSibling.textContent).then(() => { copy.textContent = "Copied"; });
  else if (copy) copy.hidden = true;
  build();
  legend();
  tables();
  draw();
  const controls = document.querySelector(".controls");
  addEventListener("scroll", () => controls.classList.toggle("stuck", controls.getBoundingClientRect().top <= 0), { passive: true });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
})();
