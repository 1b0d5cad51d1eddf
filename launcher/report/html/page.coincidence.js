// Curves that cannot be told apart where they are drawn.
const LINE = 2, STRIPE = 9; // pixels

// Return sets of positions: curves that lie within a line's width of the first of their set.
function coinciding(curves) {
  const sets = [];
  curves.forEach((one, index) => {
    const set = sets.find(([first]) => coincide(curves[first], one));
    if (set) set.push(index); else sets.push([index]);
  });
  return sets.filter((set) => set.length > 1);
}
// A curve is a list of [x, y] in pixels, from left to right.
function coincide(a, b) {
  const near = (one, other) => Math.abs(one - other) <= LINE * 0.75;
  if (!near(a[0][0], b[0][0]) || !near(a.at(-1)[0], b.at(-1)[0])) return false;
  const isOn = (points, line) => points.every(([x, y]) => near(y, heightAt(line, x)));
  return isOn(a, b) && isOn(b, a);
}
function heightAt(line, x) {
  let low = 0, high = line.length - 1;
  if (x <= line[0][0]) return line[0][1];
  if (x >= line[high][0]) return line[high][1];
  while (high - low > 1) { const middle = (low + high) >> 1; if (line[middle][0] < x) low = middle; else high = middle; }
  const [[x0, y0], [x1, y1]] = [line[low], line[high]];
  return x1 === x0 ? y1 : y0 + ((x - x0) / (x1 - x0)) * (y1 - y0);
}

// Return how each curve is drawn that coincides with others, null for those that do not. Curves of several colours are
// the stripes of one line. Among curves of one colour the solid one is the casing of the dashed.
function disguises(drawn, sets) {
  const found = drawn.map(() => null);
  for (const set of sets) {
    const colours = [...new Set(set.map((index) => drawn[index].entity.colour))];
    const dash = (index) => drawn[index].entity.dash.length, most = Math.max(...set.map(dash));
    const rhythm = set.every((index) => dash(index) === most) ? drawn[set[0]].entity.dash : [];
    const share = 1 / set.length; // of the shade of bands, which lie on one another
    for (const index of set) {
      found[index] = { kind: "", share };
      if (colours.length > 1) found[index] = { kind: "stripe", share, dash: stripes(rhythm, colours.indexOf(drawn[index].entity.colour), colours.length) };
      else if (dash(index) < most) found[index].kind = "casing";
    }
  }
  return found;
}

// Return a dash pattern by which each of several colours comes in turn: one stroke of it, or one round of its dashes.
function stripes(rhythm, place, count) {
  const turn = rhythm.length ? rhythm : [STRIPE, 0], long = turn.reduce((sum, part) => sum + part, 0);
  return { pattern: [...turn.slice(0, -1), turn.at(-1) + (count - 1) * long], offset: -place * long };
}

// Return a sentence that names the curves that coincide; empty if none do.
function sentence(all, sets) {
  const telling = sets.filter((set) => new Set(set.map(({ group }) => group)).size > 1); // seeds are no news
  if (!telling.length) return "";
  const groups = new Set(all.map(({ group }) => group)).size;
  const parts = groups > 2 && new Set(telling[0].map(({ group }) => group)).size === groups ? ["all curves"] : summaries(all, telling);
  const shortened = parts.length > 4 ? [...parts.slice(0, 3), `and ${parts.length - 3} more sets`] : parts;
  return `Within the width of a line, these coincide: ${shortened.join("; ")}.`;
}
const enumeration = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0]);
const distinct = (values) => [...new Set(values)];

// Return a text for each set; one for several, such as "sgp and dpsgd for every topology", where a value is all they share.
function summaries(all, sets) {
  const texts = [], alike = new Map();
  for (const set of sets) {
    const values = [0, 1].map((factor) => (report.crossed ? distinct(set.map((entity) => valueOf(factor, entity))) : [-1, -1]));
    const other = values.findIndex((found) => found.length === 1);
    if (other < 0) { texts.push(enumeration(distinct(set.map(({ group }) => report.groups[group].label)))); continue; }
    const key = `${other} ${values[1 - other]}`;
    if (!alike.has(key)) alike.set(key, { other, values: values[1 - other], shared: [] });
    alike.get(key).shared.push(values[other][0]);
  }
  const rules = [...alike.values()].map(({ other, values, shared }) => {
    const name = (factor, value) => report.factors[factor].values[value];
    const isEvery = shared.length > 1 && shared.length === distinct(all.map((entity) => valueOf(other, entity))).length;
    const where = isEvery ? `every ${report.factors[other].key}` : enumeration(shared.map((value) => name(other, value)));
    return `${enumeration(values.map((value) => name(1 - other, value)))} for ${where}`;
  });
  return [...rules, ...texts];
}
