"""Write the tables and draw the pictures of docs/map.md.

    python docs/make_map.py [FILE ...]

A FILE (default: all docs/results/map*.json) is the output of ``benchmarks/map.py --json``.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "map.md"
RESULTS = HERE / "results"
PAPERS = HERE.parent / "benchmarks" / "papers"
PUBLISHED = "30m utilisation"
IMAGES = HERE / "images" / "map"
BEGIN, END = "<!-- {name}, written by make_map.py -->", "<!-- end of table -->"
STRAGGLERS = {"none": "no stragglers", "stalls": "one step in twenty is five times as long"}
COLOURS = {
    **{"allreduce": "#9ca3af", "ddp": "#d1d5db", "local_sgd": "#d97706", "sgp": "#60a5fa", "osgp": "#2dd4bf"},
    **{"diloco": "#f472b6", "streaming": "#fb7185", "noloco": "#c084fc", "asgp": "#4ade80"},
}

Row = dict[str, Any]


def main() -> None:
    """Write every table between its markers, draw the pictures."""
    files = list(map(Path, sys.argv[1:])) or sorted(RESULTS.glob("map*.json"))
    page = PAGE.read_text(encoding="utf-8")
    for file in files:
        written = json.loads(file.read_text(encoding="utf-8"))
        task = written["about"]["task"]
        for name, text in parts(written["about"], written["rows"]).items():
            page = with_part(page, f"{task} {name}", text)
        draw_map(written["rows"], IMAGES / f"{task}.svg")
        draw_measured(written["rows"], IMAGES / f"{task}-measured.svg")
    script = load_published()
    PAGE.write_text(with_part(page, PUBLISHED, published_table(script)), encoding="utf-8")
    draw_published(script, IMAGES / "30m.svg")


def parts(about: Row, rows: list[Row]) -> dict[str, str]:
    """Return the tables of a task by name."""
    everywhere = [row for row in rows if "thin_mbit" not in row]
    measured = [row for row in rows if "measured" in row]
    return {
        "seconds": seconds_table(everywhere),
        **({"measured": measured_table(measured)} if measured else {}),
        "steps": steps_table(everywhere),
        "utilisation": utilisation_table(everywhere),
        "regions": regions_table([row for row in rows if "thin_mbit" in row]),
        "conditions": conditions(about),
    }


def with_part(page: str, name: str, text: str) -> str:
    """Return the page with ``text`` between the markers of a name."""
    begin = BEGIN.format(name=name) + "\n"
    before, rest = page.split(begin)
    return f"{before}{begin}{text}\n{END}{rest.partition(END)[2]}"


def conditions(about: Row) -> str:
    """Return one line on how it was made."""
    score = about["score"].replace("_", " ")
    return (
        f"*{about['workers']} workers; {score} {about['target']:g}; {about['step_ms']:g} ms of computation a step;"
        f" evaluated every {about['evaluated_every']} steps; torch {about['torch']}, gloo, {about['cores']} cores.*"
    )


# -- tables ----------------------------------------------------------------------------------------------------------
def seconds_table(rows: Sequence[Row]) -> str:
    """Return seconds to the score for every network: of each family the best period, in bold what was measured."""
    families = list(dict.fromkeys(row["family"] for row in rows))
    titles = ["stragglers", "Mbit/s", "delay ms", *families]
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for key, mine in by_cell(rows):
        who, mbit, delay = key
        cells = [best_of(row for row in mine if row["family"] == family) for family in families]
        winner = min((row["seconds"] for row in cells if row is not None), default=None)
        texts = [seconds_text(row, wins=row is not None and row["seconds"] == winner) for row in cells]
        lines.append([who, f"{mbit:g}", f"{delay:g}", *texts])
    return markdown(lines)


def seconds_text(row: Row | None, *, wins: bool) -> str:
    """Return seconds, the period after them; an arrow at the fastest, bold where they were measured."""
    if row is None:
        return "-"
    measured = row.get("measured")
    seconds = f"**{measured['seconds']:.0f}**" if measured else f"{row['seconds']:.0f}"
    return f"{'→ ' if wins else ''}{seconds}" + (f" / {row['period']}" if row["period"] > 1 else "")


def measured_table(rows: Sequence[Row]) -> str:
    """Return what was measured beside what was predicted."""
    titles = ["Mbit/s", "delay ms", "stragglers", "rule", "steps", "seconds", "predicted", "predicted / measured"]
    lines = [[*titles, "computes", "predicted", "MB a step", "predicted", "score then"], ["---:"] * 13]
    lines[1][2:4] = ["---", "---"]
    for row in rows:
        it = row["measured"]
        thin = f", {row['thin_mbit']:g} between regions" if "thin_mbit" in row else ""
        lines.append(
            [
                *(f"{row['mbit']:g}{thin}", f"{row['delay_ms']:g}", row["stragglers"], row["name"], str(row["steps"])),
                *(f"{it['seconds']:.1f}", f"{row['seconds']:.1f}", f"{row['seconds'] / it['seconds']:.2f}"),
                *(f"{it['utilisation']:.0%}", f"{row['utilisation']:.0%}"),
                *(f"{it['bytes_per_step'] / 1e6:.2f}", f"{row['bytes_per_step'] / 1e6:.2f}", f"{it['score']:.2f}"),
            ]
        )
    return markdown(lines)


def steps_table(rows: Sequence[Row]) -> str:
    """Return how many steps each rule needs, by period, and with which learning rate."""
    periods = sorted({row["period"] for row in rows})
    lines = [["", *(f"every {period}" for period in periods)], ["---", *["---:"] * len(periods)]]
    once = {(row["family"], row["period"]): row for row in rows if row["family"] != "asgp"}
    for family in dict.fromkeys(family for family, _ in once):
        cells = []
        for period in periods:
            row = once.get((family, period))
            steps = None if row is None else row["steps"]
            cells.append("" if row is None else f"{steps or 'not reached'} ({row['rate']:g})")
        lines.append([family, *cells])
    return markdown(lines)


def utilisation_table(rows: Sequence[Row]) -> str:
    """Return the share of time in which workers compute, and what a worker sends, without delay and stragglers."""
    still = [row for row in rows if row["delay_ms"] == 0 and row["stragglers"] == "none"]
    rates = sorted({row["mbit"] for row in still})
    lines = [["", "MB a step", *(f"{rate:g} Mbit/s" for rate in rates)], ["---", *["---:"] * (len(rates) + 1)]]
    for name in dict.fromkeys(row["name"] for row in still):
        mine = {row["mbit"]: row for row in still if row["name"] == name}
        first = next(iter(mine.values()))
        shares = [f"{mine[rate]['utilisation']:.0%}" if rate in mine else "" for rate in rates]
        lines.append([name, f"{first['bytes_per_step'] / 1e6:.3f}", *shares])
    return markdown(lines)


def regions_table(rows: Sequence[Row]) -> str:
    """Return the rules between two regions, the fastest first."""
    titles = ["rule", "rate", "steps", "ms a step", "MB a step on the thin link", "seconds", "measured"]
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for row in sorted(rows, key=lambda row: row["seconds"] or float("inf")):
        measured = row.get("measured")
        lines.append(
            [
                *(row["name"], f"{row['rate']:g}", str(row["steps"] or "not reached"), f"{row['step_ms']:.0f}"),
                f"{row['busiest_link_bytes'] / 1e6:.2f}",
                f"{row['seconds']:.0f}" if row["seconds"] else "-",
                f"**{measured['seconds']:.0f}**" if measured else "",
            ]
        )
    return markdown(lines)


def load_published() -> ModuleType:
    """Return the script that holds utilisation as others measured it, and what the clock says of the same steps."""
    sys.path.insert(0, str(PAPERS))
    try:
        return importlib.import_module("diloco_measured")
    finally:
        sys.path.remove(str(PAPERS))


def published_table(script: ModuleType) -> str:
    """Return measured and predicted utilisation by steps between averages and by the rate of links."""
    titles = ["H", *(f"{mbit} Mbit/s" for mbit in script.MBIT)]
    lines = [titles, ["---:"] * len(titles)]
    for period, cells in script.PUBLISHED.items():
        pairs = zip(script.MBIT, cells, strict=True)
        shares = [f"**{cell.utilisation:.1%}** {script.as_counted(cell, mbit):.1%}" for mbit, cell in pairs]
        lines.append([str(period), *shares])
    return markdown(lines)


def markdown(lines: Iterable[Sequence[str]]) -> str:
    """Return a table of rows of cells, the head and the line below it first."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def by_cell(rows: Sequence[Row]) -> list[tuple[tuple[str, float, float], list[Row]]]:
    """Return the rows of every network and kind of stragglers."""

    def key(row: Row) -> tuple[str, float, float]:
        return row["stragglers"], row["mbit"], row["delay_ms"]

    return [(cell, list(mine)) for cell, mine in itertools.groupby(sorted(rows, key=key), key)]


def best_of(rows: Iterable[Row]) -> Row | None:
    """Return the row that is at the score first; None where none is."""
    return min((row for row in rows if row["seconds"]), key=lambda row: row["seconds"], default=None)


# -- pictures --------------------------------------------------------------------------------------------------------
def draw_map(rows: Sequence[Row], path: Path) -> None:
    """Draw who is first in each cell, how many times as fast as the better AllReduce, and a frame where measured."""
    plt = pyplot()
    everywhere = [row for row in rows if "thin_mbit" not in row]
    kinds = [kind for kind in STRAGGLERS if any(row["stragglers"] == kind for row in everywhere)]
    rates = sorted({row["mbit"] for row in everywhere})
    delays = sorted({row["delay_ms"] for row in everywhere})
    figure, panels = plt.subplots(1, len(kinds), figsize=(4.6 * len(kinds), 3.6), layout="constrained", squeeze=False)
    for panel, kind in zip(panels[0], kinds, strict=True):
        for (_, mbit, delay), mine in by_cell([row for row in everywhere if row["stragglers"] == kind]):
            if (best := best_of(mine)) is None:
                continue
            x, y = delays.index(delay), rates.index(mbit)
            reference = best_of(row for row in mine if row["family"] in ("allreduce", "ddp"))
            frame = (
                {"edgecolor": "black", "linewidth": 2.2, "zorder": 3} if "measured" in best else {"edgecolor": "white"}
            )
            panel.add_patch(plt.Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=COLOURS[best["family"]], **frame))
            times = f"\n{reference['seconds'] / best['seconds']:.1f} x" if reference else ""
            panel.text(x, y, best["name"] + times, ha="center", va="center", fontsize=8, zorder=4)
        panel.set(title=STRAGGLERS[kind], xlabel="delay, ms", xlim=(-0.55, len(delays) - 0.45))
        panel.set(ylim=(-0.55, len(rates) - 0.45))
        panel.set_xticks(range(len(delays)), [f"{delay:g}" for delay in delays])
        panel.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        panel.spines[:].set_visible(False)
        panel.tick_params(length=0)
    panels[0][0].set_ylabel("Mbit/s")
    save(figure, path)


def draw_measured(rows: Sequence[Row], path: Path) -> None:
    """Draw seconds to the score: bars are predicted, dots are measured."""
    plt = pyplot()
    measured = [row for row in rows if "measured" in row]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in measured:
        groups.setdefault((row["mbit"], row["delay_ms"], row["stragglers"], row.get("thin_mbit")), []).append(row)
    if not groups:
        return
    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(3.4 * columns, 2.3 * lines), layout="constrained", squeeze=False
    )
    for panel in panels.flat[len(groups) :]:
        panel.set_visible(False)
    for panel, ((mbit, delay, who, thin), mine) in zip(panels.flat, groups.items(), strict=False):
        mine = sorted(mine, key=lambda row: -row["seconds"])
        for place, row in enumerate(mine):
            colour = COLOURS.get(row["family"].split("/")[0], "#9ca3af")
            panel.barh(place, row["seconds"], facecolor="none", edgecolor=colour, linewidth=1.5, height=0.66)
            panel.plot(row["measured"]["seconds"], place, "o", color="black", markersize=4)
        panel.set_yticks(range(len(mine)), [row["name"] for row in mine], fontsize=7)
        title = f"{mbit:g} Mbit/s, {delay:g} ms" + (", stalls" if who == "stalls" else "")
        panel.set_title(title if thin is None else f"two regions, {thin:g} Mbit/s between", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("seconds to the score: bars predicted, dots measured", fontsize=9)
    save(figure, path)


def draw_published(script: ModuleType, path: Path) -> None:
    """Draw utilisation over the rate of links: lines are predicted, dots are what others measured."""
    figure, panel = pyplot().subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, points in script.utilisation().items():
        family = name.partition(",")[0].partition(" ")[0].lower()
        dashes = {"8": ":", "32": "--"}.get(name.rpartition(" ")[2], "-")
        panel.plot(*zip(*points, strict=True), dashes, color=COLOURS.get(family, "#9ca3af"), label=name, linewidth=1.6)
    for period, cells in script.PUBLISHED.items():
        shares = [cell.utilisation for cell in cells]
        panel.plot(script.MBIT, shares, "o", color="black", markersize=3 + period / 40)
    panel.set(xscale="log", xlabel="Mbit/s of a link", ylabel="share of time that computes", ylim=(0, 1.02))
    panel.legend(fontsize=8, frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def pyplot() -> Any:
    """Return matplotlib's, set up for pictures that are the same on every machine."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "map", "font.size": 9})
    import matplotlib.pyplot as plt

    return plt


def save(figure: Any, path: Path) -> None:
    """Write a figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    pyplot().close(figure)


if __name__ == "__main__":
    main()
