// Where a step's time goes.
const PARTS = ["data", "compute", "communication"];
const total = ({ parts }) => PARTS.reduce((sum, part) => sum + parts[part], 0);

function drawBars(figure) {
  const place = figure.querySelector(".bars");
  const rows = visible().map((entity) => ({ entity, parts: meanParts(entity.members.map((run) => report.step_time_ms[run]).filter(Boolean)) })).filter(({ parts }) => parts);
  if (!rows.length) {
    place.innerHTML = `<div class="plot"><div class="empty">${report.step_time_ms.some(Boolean) ? "Nothing is switched on" : "No data yet"}</div></div>`;
    return;
  }
  const width = place.clientWidth, above = width < 560, many = rows.length > 16;
  const longest = Math.max(...rows.map(({ entity }) => textWidth(entity.label, 13)));
  const label = above ? 0 : Math.min(width * 0.34, 44 + longest);
  const shape = { above, label, room: width - label - 74, names: (above ? width : label) - 40, pitch: above ? 46 : many ? 24 : 32, bar: many ? 14 : 18, most: Math.max(...rows.map(total)) || 1 };
  const height = rows.length * shape.pitch + 4;
  place.innerHTML = `<svg viewBox="0 0 ${width} ${height}" height="${height}" role="img" aria-label="Time per step">${rows.map((row, index) => drawBar(row, index * shape.pitch, shape)).join("")}</svg>`;
}
function drawBar(row, top, { above, label, room, names, pitch, bar, most }) {
  const middle = top + (above ? 32 : pitch / 2), name_y = above ? top + 16 : middle + 4;
  let from = label;
  const bars = PARTS.map((part) => {
    const long = (row.parts[part] / most) * room, begin = from;
    from += long;
    const text = long > 46 ? `<text class="inside" x="${begin + long / 2}" y="${middle + 4}" text-anchor="middle" style="fill:var(--on-${part})">${milliseconds(row.parts[part])}</text>` : "";
    return `<rect x="${begin.toFixed(1)}" y="${middle - bar / 2}" width="${Math.max(0, long - (long > 3 ? 1 : 0)).toFixed(1)}" height="${bar}" rx="2" fill="var(--part-${part})"><title>${part} ${milliseconds(row.parts[part])} ms</title></rect>${text}`;
  }).join("");
  return `<g class="bar" data-runs="${row.entity.members.join(" ")}">${sample(colour(row.entity), row.entity.dash, 1, 21, name_y - 4)}<text class="label" x="29" y="${name_y}">${escape(cut(row.entity.label, names))}<title>${escape(row.entity.label)}</title></text>${bars}<text x="${from + 8}" y="${middle + 4}">${milliseconds(total(row))} ms</text></g>`;
}
function cut(text, width) {
  if (textWidth(text, 13) <= width) return text;
  let kept = text.length;
  while (kept > 1 && textWidth(`${text.slice(0, kept)}…`, 13) > width) kept -= 1;
  return `${text.slice(0, kept)}…`;
}
function meanParts(several) {
  if (!several.length) return null;
  return Object.fromEntries(PARTS.map((part) => [part, several.reduce((sum, parts) => sum + parts[part], 0) / several.length]));
}
