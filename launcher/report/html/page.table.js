// The tables of results.
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
