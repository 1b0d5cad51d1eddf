// Scales: where a value belongs in a chart, and where its ticks are.
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
  const found = linear(low, high, 4.6), { step } = found;
  const ticks = unit === "bytes" ? found.ticks.filter(Number.isInteger) : found.ticks;
  let digits = 0;
  while (digits < 8 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits += 1;
  const name = (tick) => (unit === "bytes" ? bytes(tick) : high >= 1e5 || high < 1e-4 ? (tick === 0 ? "0" : scientific(tick, 1)) : tick.toFixed(digits));
  return { at: (value) => (value - low) / (high - low), ticks, name };
}
// One for all charts, so that what is above one another happened together. Training begins at 0.
function positionScale() {
  const ends = report.charts.flatMap((chart) => visible().map((entity) => curve(chart, entity)?.at(-1).x ?? 0));
  const low = 0, high = Math.max(...ends) || 1, { heading, seconds } = AXES[view.axis];
  const [unit, name] = seconds ? clock(high) : [1, ""];
  const { ticks } = linear(low / unit, high / unit, 6);
  return {
    at: (x) => (x - low) / (high - low),
    back: (share) => low + share * (high - low),
    ticks: ticks.map((tick) => tick * unit),
    name: (tick) => (tick / unit).toLocaleString("en", { maximumFractionDigits: 4 }),
    title: seconds ? `${heading} (${name})` : heading,
  };
}
