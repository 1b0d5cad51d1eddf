// Charts of curves: one, or a small one for each value of a factor.
const MARGIN = { left: 62, right: 14, top: 8, bottom: 36 };

function drawCurves(chart, figure) {
  const log = view.log[chart.key], off = [], away = [], drawn = [];
  for (const entity of visible()) {
    const rows = curve(chart, entity), kept = rows && log ? positive(rows) : rows;
    if (!rows && entity.members.some((run) => chart.runs[run])) away.push(entity.label);
    if (kept !== rows && kept.length < rows.length) off.push(entity.label);
    if (kept?.length) drawn.push({ entity, rows: kept });
  }
  const place = figure.querySelector(".plots");
  const notes = [
    off.length ? `Zeros have no place on a logarithmic scale: ${few(off)}.` : "",
    away.length ? `Without ${AXES[view.axis].heading.toLowerCase()}: ${few(away)}.` : "",
  ];
  if (drawn.length) {
    const panels = panelsOf(drawn), several = view.multiples !== null;
    place.className = several ? "plots several" : "plots";
    place.innerHTML = panels.map(({ title }) => `<div>${several ? `<h3>${escape(title)}</h3>` : ""}<div class="plot"></div></div>`).join("");
    const scales = { xs: positionScale(), ys: valueScale(drawn.flatMap(({ rows }) => rows), log, chart.unit) };
    const sets = [...place.querySelectorAll(".plot")].flatMap((plot, index) => drawPlot(plot, chart, panels[index].drawn, scales));
    notes.push(sentence(drawn.map(({ entity }) => entity), sets));
  } else {
    const any = chart.runs.some(Boolean);
    place.className = "plots";
    place.innerHTML = `<div class="plot"><div class="empty">${off.length ? "All values are 0" : away.length ? "Nothing is on this axis" : any ? "Nothing is switched on" : "No data yet"}</div></div>`;
  }
  figure.querySelector(".aside").textContent = notes.filter(Boolean).join(" ");
}

const few = (names) => `${names.slice(0, 3).join(", ")}${names.length > 3 ? " and others" : ""}`;

function positive(rows) {
  return rows.filter((row) => row.mean > 0).map((row) => ({ ...row, low: row.low > 0 ? row.low : row.low === undefined ? undefined : row.mean }));
}

function panelsOf(drawn) {
  if (view.multiples === null) return [{ title: "", drawn }];
  return report.factors[view.multiples].values
    .map((title, value) => ({ title, drawn: drawn.filter(({ entity }) => valueOf(view.multiples, entity) === value) }))
    .filter((panel) => panel.drawn.length);
}

// Draw curves and return the sets of entities whose curves coincide.
function drawPlot(plot, chart, drawn, { xs, ys }) {
  const width = plot.clientWidth, height = plot.clientHeight;
  const room = labelRoom([...new Set(visible().map((entity) => nameIn(view.multiples, entity)))], width);
  const inner = { width: width - MARGIN.left - (room || MARGIN.right), height: height - MARGIN.top - MARGIN.bottom };
  const x = (row) => MARGIN.left + xs.at(row.x) * inner.width;
  const y = (value) => MARGIN.top + (1 - ys.at(value)) * inner.height;
  const bottom = MARGIN.top + inner.height, right = MARGIN.left + inner.width;
  const sets = coinciding(drawn.map(({ rows }) => rows.map((row) => [x(row), y(row.mean)])));
  const found = disguises(drawn, sets), isCasing = ({ disguise }) => disguise?.kind === "casing";
  const ordered = drawn.map((one, index) => ({ ...one, disguise: found[index] })).sort((a, b) => isCasing(b) - isCasing(a));
  const ends = room ? drawn.map(({ entity, rows }) => ({ entity, name: nameIn(view.multiples, entity), x: x(rows.at(-1)), y: y(rows.at(-1).mean) })) : [];
  const label = `${chart.title} over ${xs.title}, ${drawn.length} curves`;
  plot.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)}" class="${drawn.length > MOST_LABELS ? "many" : ""}"><g class="grid">${drawGrid(xs, ys, x, y, right, bottom)}</g>${ordered.map((one) => drawCurve(one, x, y)).join("")}${drawLabels(ends, right, MARGIN.top + 2, bottom - 4)}<g class="over"></g></svg><div class="tip" hidden></div>`;
  hover(plot, chart, ordered, { xs, x, y, inner, bottom, width });
  return sets.map((set) => set.map((index) => drawn[index].entity));
}

function drawGrid(xs, ys, x, y, right, bottom) {
  return [
    ...ys.ticks.map((tick) => `<line x1="${MARGIN.left}" x2="${right}" y1="${y(tick).toFixed(1)}" y2="${y(tick).toFixed(1)}"/><text x="${MARGIN.left - 9}" y="${(y(tick) + 4).toFixed(1)}" text-anchor="end">${ys.name(tick)}</text>`),
    `<line class="base" x1="${MARGIN.left}" x2="${right}" y1="${bottom}" y2="${bottom}"/>`,
    ...xs.ticks.map((tick) => `<text x="${x({ x: tick }).toFixed(1)}" y="${bottom + 17}" text-anchor="middle">${xs.name(tick)}</text>`),
    `<text class="axis-name" x="${right}" y="${bottom + 32}" text-anchor="end">${xs.title}</text>`,
  ].join("");
}

function drawCurve({ entity, rows, disguise }, x, y) {
  const band = rows.length > 1 && rows[0].low !== undefined
    ? `<path class="band" fill="${colour(entity)}"${disguise ? ` opacity="${disguise.share.toFixed(3)}"` : ""} d="${path(rows, x, (row) => y(row.high))}${path([...rows].reverse(), x, (row) => y(row.low)).replace("M", "L")}Z"/>` : "";
  const single = rows.length === 1
    ? `<circle cx="${x(rows[0]).toFixed(1)}" cy="${y(rows[0].mean).toFixed(1)}" r="3.5" fill="${colour(entity)}"/>` : "";
  const pattern = disguise?.kind === "stripe"
    ? `${dashes({ dash: disguise.dash.pattern })} stroke-dashoffset="${disguise.dash.offset}"` : dashes(entity);
  return `<g class="curve ${disguise?.kind ?? ""}" data-runs="${entity.members.join(" ")}" data-points="${rows.length}">${band}<path class="line" stroke="${colour(entity)}"${pattern} d="${path(rows, x, (row) => y(row.mean))}"/>${single}</g>`;
}
