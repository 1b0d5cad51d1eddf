// Names at the ends of curves, where there is room for them.
const MOST_LABELS = 8, LABEL_PITCH = 15, LEADER = 20;
const ruler = document.createElement("canvas").getContext("2d");
function textWidth(text, size = 12) {
  ruler.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

// Return the room to the right of a plot, 0 if its curves get no names. All charts of one width have the same room.
function labelRoom(names, width) {
  if (names.length < 2 || names.length > MOST_LABELS) return 0;
  const room = Math.ceil(Math.max(...names.map((name) => textWidth(name)))) + LEADER + 6;
  return room <= Math.max(width * 0.32, 76) ? room : 0;
}

// Return the wanted heights, from top to bottom, moved as little as necessary to be a pitch apart and within bounds.
function spread(wanted, low, high) {
  const blocks = [];
  wanted.forEach((at, index) => {
    blocks.push({ sum: at - index * LABEL_PITCH, count: 1 });
    while (blocks.length > 1 && blocks.at(-2).sum / blocks.at(-2).count > blocks.at(-1).sum / blocks.at(-1).count) {
      const { sum, count } = blocks.pop();
      blocks.at(-1).sum += sum;
      blocks.at(-1).count += count;
    }
  });
  const top = high - (wanted.length - 1) * LABEL_PITCH;
  return blocks.flatMap(({ sum, count }) => Array(count).fill(sum / count)).map((at, index) => Math.max(low, Math.min(top, at)) + index * LABEL_PITCH);
}

// ends: of each curve the entity, its name and where it ends.
function drawLabels(ends, from, low, high) {
  if ((ends.length - 1) * LABEL_PITCH > high - low) return "";
  const ordered = [...ends].sort((a, b) => a.y - b.y);
  const heights = spread(ordered.map(({ y }) => y), low, high);
  return ordered.map(({ entity, name, x, y }, index) => {
    const at = heights[index].toFixed(1);
    const leader = `M${(x + 3).toFixed(1)} ${y.toFixed(1)}L${(from + 3).toFixed(1)} ${y.toFixed(1)}L${from + LEADER - 5} ${at}`;
    return `<g class="end" data-runs="${entity.members.join(" ")}"><path stroke="${colour(entity)}" d="${leader}"/><text x="${from + LEADER}" y="${(heights[index] + 4).toFixed(1)}">${escape(name)}</text></g>`;
  }).join("");
}
