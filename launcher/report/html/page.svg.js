// Pieces of SVG.
const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
const colour = (entity) => `var(--c${entity.colour})`;
const dashes = (entity) => (entity.dash.length ? ` stroke-dasharray="${entity.dash.join(" ")}"` : "");
const sample = (stroke, dash, x1 = 1, x2 = 21, y = 5) =>
  `<line x1="${x1}" x2="${x2}" y1="${y}" y2="${y}" stroke="${stroke}" stroke-width="3" stroke-linecap="${dash.length ? "butt" : "round"}"${dashes({ dash })}/>`;
const swatchOf = (stroke, dash) => `<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true">${sample(stroke, dash)}</svg>`;
const swatch = (entity) => swatchOf(colour(entity), entity.dash);
const path = (rows, x, y) => rows.map((row, i) => `${i ? "L" : "M"}${x(row).toFixed(1)} ${y(row).toFixed(1)}`).join("");
