// Numbers as people read them.
const SIZES = ["B", "kB", "MB", "GB", "TB", "PB"];
function bytes(value, digits = 3) {
  let unit = 0;
  while (Math.abs(value) >= 1000 && unit < SIZES.length - 1) { value /= 1000; unit += 1; }
  return `${trimmed(value, digits)} ${SIZES[unit]}`;
}
const milliseconds = (value) => (value < 1000 ? value.toPrecision(3) : Math.round(value).toLocaleString("en"));
const trimmed = (value, digits) => String(Number(value.toPrecision(digits)));
const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
function scientific(value, digits) {
  const [mantissa, exponent] = value.toExponential(digits).split("e");
  const power = `10${[...String(Number(exponent))].map((sign) => SUPERSCRIPT[sign]).join("")}`;
  return Number(mantissa) === 1 && digits === 0 ? power : `${mantissa}·${power}`;
}
function reading(value, unit) {
  if (unit === "bytes") return bytes(value);
  if (value === 0) return "0";
  return Math.abs(value) >= 1e-3 && Math.abs(value) < 1e4 ? value.toFixed(4) : scientific(value, 2);
}
function clock(limit) {
  if (limit < 300) return [1, "s"];
  return limit < 4 * 3600 ? [60, "min"] : [3600, "h"];
}
function place(x) {
  if (view.axis === "step") return `Step ${Math.round(x).toLocaleString("en")}`;
  if (!AXES[view.axis].seconds) return `${AXES[view.axis].heading} ${trimmed(x, 4)}`;
  return x < 1 ? `${trimmed(x, 3)} s` : x < 120 ? `${x.toFixed(1)} s` : x < 7200 ? `${(x / 60).toFixed(1)} min` : `${(x / 3600).toFixed(2)} h`;
}
