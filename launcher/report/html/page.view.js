// The data of the page, and what its reader has chosen to see.
const report = JSON.parse(document.getElementById("data").textContent);
const AXES = report.axes;
const COLUMNS = Object.keys(AXES); // of a run, before its values
const view = {
  axis: report.axis,
  merged: report.seeds,
  multiples: null, // the factor, by its position, with a small chart for each of its values
  hidden: new Set(), // runs
  off: new Set(), // values of factors, as "factor value"
  log: Object.fromEntries(report.charts.map((chart) => [chart.key, chart.log])),
};

// What is drawn: a run, or the runs of a group as one.
function entities() {
  return view.merged
    ? report.groups.map((group, index) => ({ ...group, group: index }))
    : report.runs.map((run, index) => ({ ...report.groups[run.group], label: run.label, members: [index], group: run.group }));
}
const valueOf = (factor, entity) => report.factors[factor].positions[entity.group];
function isVisible(entity) {
  const isOff = report.factors.some((_, factor) => view.off.has(`${factor} ${valueOf(factor, entity)}`));
  return !isOff && entity.members.some((run) => !view.hidden.has(run));
}
const visible = () => entities().filter(isVisible);

// Return the name of an entity in a chart whose title says the value of a factor.
function nameIn(multiples, entity) {
  if (multiples === null) return entity.label;
  const value = report.factors[multiples].values[valueOf(multiples, entity)];
  return entity.label.split(" · ").filter((part) => part !== value).join(" · ");
}

function curve(chart, entity) {
  const several = view.merged && entity.members.length > 1;
  const band = several ? chart.bands[entity.group] : null;
  if (band) return points(band[view.axis], "x", ["mean", "std", "count"])?.map((row) => ({ ...row, low: row.mean - row.std, high: row.mean + row.std })) ?? null;
  const run = chart.runs[entity.members[0]];
  return run && points({ x: run[COLUMNS.indexOf(view.axis)], mean: run.at(-1) }, "x", ["mean"]);
}
function points(columns, x, names) {
  if (!columns) return null;
  const rows = columns[x]
    .map((at, i) => ({ x: at, ...Object.fromEntries(names.map((name) => [name, columns[name][i]])) }))
    .filter((row) => row.x !== null && row.mean !== null);
  return rows.length ? rows.sort((a, b) => a.x - b.x) : null;
}
