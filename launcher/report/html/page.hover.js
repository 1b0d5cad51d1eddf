// The numbers below the pointer.
function nearest(rows, at) {
  let low = 0, high = rows.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (rows[middle].x < at) low = middle; else high = middle; }
  return at - rows[low].x < rows[high].x - at ? rows[low] : rows[high];
}

function hover(plot, chart, drawn, { xs, x, y, inner, bottom, width }) {
  const svg = plot.querySelector(":scope > svg"), over = svg.querySelector(".over"), tip = plot.querySelector(".tip");
  const marks = [...svg.querySelectorAll(".curve, .end")];
  plot.onpointerleave = () => { over.innerHTML = ""; tip.hidden = true; svg.classList.remove("focus"); };
  plot.onpointermove = (event) => {
    const box = plot.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    const at = xs.back(Math.min(1, Math.max(0, (px - MARGIN.left) / inner.width)));
    const slack = 0.02 * (xs.back(1) - xs.back(0));
    const found = drawn
      .map(({ entity, rows }) => ({ entity, row: nearest(rows, at), ends: [rows[0].x - slack, rows[rows.length - 1].x + slack] }))
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
    const runs = closest.entity.members.join(" ");
    for (const mark of marks) mark.classList.toggle("on", mark.dataset.runs === runs);
  };
}
