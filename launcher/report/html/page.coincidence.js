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
  const named = sets.map((set) => [...new Set(set.map((entity) => report.groups[entity.group].label))]).filter((names) => names.length > 1);
  if (!named.length) return "";
  const groups = new Set(all.map((entity) => entity.group)).size;
  const rule = groups > 2 && named[0].length === groups ? "all curves" : crossing(all, sets) ?? shortened(named.map(enumeration), "; ");
  return `Within the width of a line, these coincide: ${rule}.`;
}
const enumeration = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0]);
const shortened = (parts, by) => (parts.length > 4 ? [...parts.slice(0, 3), `and ${parts.length - 3} more sets`].join(by) : parts.join(by));

// Return "a and b for every topology" if the same values of one factor coincide for every value of the other.
function crossing(all, sets) {
  if (!report.crossed) return null;
  for (const [factor, other] of [[0, 1], [1, 0]]) {
    const kinds = sets.map((set) => [[...new Set(set.map((entity) => valueOf(factor, entity)))].join(), [...new Set(set.map((entity) => valueOf(other, entity)))]]);
    const values = new Set(all.map((entity) => valueOf(other, entity)));
    const [first] = kinds[0];
    const isRule = kinds.length === values.size && values.size > 1 && kinds.every(([kind, others]) => kind === first && others.length === 1);
    if (isRule) return `${enumeration(first.split(",").map((value) => report.factors[factor].values[value]))}, for every ${report.factors[other].key}`;
  }
  return null;
}
