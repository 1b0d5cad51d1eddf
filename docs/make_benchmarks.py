"""Write the tables and draw the pictures of docs/benchmarks.md from the results of the benchmarks.

    python docs/make_benchmarks.py [FOLDER]

FOLDER (default: runs/benchmarks) holds the files that the benchmarks wrote with ``--json``. Tables and
pictures without a file there are left unchanged.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "benchmarks.md"
IMAGES = HERE / "images" / "benchmarks"
BEGIN, END = "<!-- table: {name}, written by make_benchmarks.py -->", "<!-- end of table -->"
TABLES = runpy.run_path(str(HERE.parent / "benchmarks" / "suite" / "tables.py"))
WRITERS = {
    "step_overhead": TABLES["overhead"],
    "slow_network": TABLES["network"],
    "stragglers": TABLES["stragglers"],
    "in_backward": TABLES["in_backward"],
    "tracing": TABLES["tracing"],
    "input_pipeline": TABLES["input_pipeline"],
    "goodput": TABLES["goodput"],
    "elastic_kills": TABLES["elastic_kills"],
}
COLOURS = ("#6b7280", "#9ca3af", "#2563eb", "#16a34a", "#d97706", "#9333ea", "#dc2626", "#0891b2")

FLOORS = ("bare exchange", "in-place average")
OTHERS = ("torch DDP", "PeriodicModelAverager", "Decent-DP")
"""Beginnings of the names of contenders from other libraries."""

Row = dict[str, Any]
Measured = list[tuple[dict[str, Any], list[Row]]]
"""For each file, the description of its run and its rows."""


def main() -> None:
    """Read all result files, write the tables, draw the pictures."""
    found = collect(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/benchmarks"))
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    draw(found, IMAGES)


def collect(folder: Path) -> dict[str, Measured]:
    """Return the results in a folder by benchmark, in the order of file names."""
    found: dict[str, Measured] = {}
    for path in sorted(folder.glob("*.json")):
        written = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(written["about"]["benchmark"], []).append((written["about"], written["rows"]))
    return found


def with_tables(page: str, found: dict[str, Measured]) -> str:
    """Return the page with the tables of the benchmarks that were found."""
    for name, measured in found.items():
        begin = BEGIN.format(name=name)
        before, rest = page.split(begin + "\n")
        parts = [f"{conditions(about)}\n\n{WRITERS[name](rows)}" for about, rows in measured]
        page = f"{before}{begin}\n" + "\n\n".join(parts) + f"\n{END}{rest.partition(END)[2]}"
    return page


def conditions(about: dict[str, Any]) -> str:
    """Return one line on the machine and the rounds of a measurement."""
    rounds = f"{about['rounds']} round" + "s" * (about["rounds"] != 1)
    line = f"*torch {about['torch']}, {about['cores']} cores, load {about['load']} before it began; {rounds}.*"
    absent = [f"{name}: {why}" for name, why in about.get("left_out", {}).items()]
    return " ".join([line, *(f"*Left out: {reason}.*" for reason in absent)])


def draw(found: dict[str, Measured], folder: Path) -> None:
    """Draw a picture for each benchmark that was found and has one."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "benchmarks", "font.size": 9})
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for name, paint in PAINTERS.items():
        if name not in found:
            continue
        figure = paint([row for _, rows in found[name] for row in rows])
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, facecolor="white")
        plt.close(figure)


_LAYOUT: dict[str, Any] = {"layout": "constrained", "squeeze": False, "sharey": True}


def _overhead(rows: list[Row]) -> Any:
    """CPU time of communication relative to the floor: one panel per model, one bar per contender."""
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(row["model"] for row in rows))
    most = max(row["workers"] for row in rows)
    figure, panels = plt.subplots(1, len(models), figsize=(3.4 * len(models), 3.6), **_LAYOUT)
    for panel, model in zip(panels[0], models, strict=True):
        mine = [r for r in rows if (r["model"], r["workers"]) == (model, most) and r["communication_cpu_vs_floor"]]
        names = [row["name"] for row in mine]
        bars = [row["communication_cpu_vs_floor"] for row in mine]
        panel.barh(names, bars, color=[_side(name) for name in names])
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set(title=f"{model}, {most} workers", xlabel="CPU time of communication / floor")
    panels[0][0].invert_yaxis()
    return figure


def _side(name: str) -> str:
    return COLOURS[0] if name in FLOORS else COLOURS[4] if name.startswith(OTHERS) else COLOURS[2]


def _network(rows: list[Row]) -> Any:
    """Loss over time on one network; step time and its ideal on all networks, in units of a message."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    cells = list(dict.fromkeys((row["workers"], row["mbit"], row["delay_ms"]) for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    first = max(cells, key=lambda cell: (cell[0], cell[1] == 200, -cell[2]))
    for row in rows:
        if (row["workers"], row["mbit"], row["delay_ms"]) == first:
            seconds, losses = row["rounds"]["ends_s"][0], row["rounds"]["losses"][0]
            left.plot(seconds, losses, color=colours[row["name"]], label=row["name"])
    left.axhline(rows[0]["target_loss"], color="black", linewidth=0.8, linestyle=":")
    late = f", {first[2]:g} ms each way" if first[2] else ""
    title = f"{first[0]} workers, {first[1]:g} Mbit/s{late}"
    left.set(xlabel="seconds", ylabel="validation loss", title=title)
    left.legend(frameon=False)
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        mine = [(cells.index((r["workers"], r["mbit"], r["delay_ms"])), r) for r in rows if r["name"] == name]
        at = [place + number * width for place, _ in mine]
        right.bar(at, [row["step_ms"] / row["message_ms"] for _, row in mine], width, color=colours[name])
        right.plot(at, [row["ideal_ms"] / row["message_ms"] for _, row in mine], "_", color="black", markersize=12)
    labels = [f"{n} x {mbit:g}" + (f"\n{delay:g} ms" if delay else "") for n, mbit, delay in cells]
    right.set_xticks([place + 0.4 - width / 2 for place in range(len(cells))], labels)
    right.set(ylabel="step / message; the line is the ideal", xlabel="workers x Mbit/s")
    return figure


def _stragglers(rows: list[Row]) -> Any:
    """Mean step time of the workers in ms, measured and modelled: one panel per scenario."""
    import matplotlib.pyplot as plt

    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    size = (3.4 * len(scenarios), 3.2)
    figure, panels = plt.subplots(1, len(scenarios), figsize=size, **_LAYOUT)
    for panel, scenario in zip(panels[0], scenarios, strict=True):
        mine = [row for row in rows if row["scenario"] == scenario]
        names = [row["name"] for row in mine]
        panel.barh(names, [row["mean_ms"] for row in mine], color="#2563eb", label="measured")
        panel.plot([row["model_mean_ms"] for row in mine], names, "|", color="black", markersize=14, label="model")
        panel.set(xlabel="ms a step, mean of workers")
        panel.set_title(_folded(scenario), fontsize=9)
    panels[0][0].invert_yaxis()
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
    return figure


def _folded(words: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(words, 40))


PAINTERS = {"step_overhead": _overhead, "slow_network": _network, "stragglers": _stragglers}
"""The benchmarks that have a picture."""


if __name__ == "__main__":
    main()
