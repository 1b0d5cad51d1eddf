"""Write the tables and draw the pictures of docs/theory.md from what the scripts of benchmarks/papers find.

    python docs/make_theory.py [FOLDER]

FOLDER (default: runs/papers) holds what the scripts wrote with ``--json``. A script without a file there is run first:
all of them take some minutes.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "theory.md"
IMAGES = HERE / "images" / "theory"
SCRIPTS = HERE.parent / "benchmarks" / "papers"
BEGIN, END = "<!-- table: {name}, written by make_theory.py -->", "<!-- end of table -->"
COLOURS = ("#2563eb", "#d97706", "#16a34a", "#9333ea", "#dc2626", "#6b7280", "#0891b2", "#9ca3af")

ELSEWHERE = {"diloco_measured"}
"""Scripts whose findings are on the page of the map."""
LINES = {"theory": "--"}
"""How a line is drawn whose name begins so."""

Found = dict[str, Any]
"""What a script wrote: rows, curves, notes."""


@dataclass(frozen=True)
class Picture:
    """How the curves of a script are drawn, a panel for each group."""

    x: str
    y: str
    log_x: bool = False
    log_y: bool = True


PICTURES = {
    "consensus": Picture("rounds", "distance to the exact mean"),
    "random_targets": Picture("rounds", "largest relative error"),
    "delayed_push_sum": Picture("rounds", "largest error"),
    "moshpit_averaging": Picture("rounds", "variance between workers"),
    "random_quadratics": Picture("workers", "steps to 1e-6", log_x=True),
    "graph_filter": Picture("rounds", "left of any component"),
    "gradient_norm": Picture("samples of all workers, n K", "mean square of the gradient", log_x=True),
    "linear_speed_up": Picture("", "loss", log_x=True),
    "speed_up_in_seconds": Picture("workers", "virtual seconds to the loss", log_x=True),
    "slowmo_quadratic": Picture("blocks", "|x|"),
    "slowmo_times": Picture("Gbit/s of a link", "ms an iteration", log_x=True),
}


def main() -> None:
    """Run what is missing, write the tables, draw the pictures."""
    found = collect(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/papers"))
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    draw(found, IMAGES)


def collect(folder: Path) -> dict[str, Found]:
    """Return what each script wrote; those that have no file there are run."""
    found = {}
    for name in PICTURES:
        path = folder / f"{name}.json"
        if not path.exists():
            subprocess.run([sys.executable, SCRIPTS / f"{name}.py", "--json", path], check=True)
        found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def with_tables(page: str, found: dict[str, Found]) -> str:
    """Return the page with the tables of the scripts that were found."""
    comparison = runpy.run_path(str(SCRIPTS / "comparison.py"))
    for name, of_script in found.items():
        begin = BEGIN.format(name=name)
        before, rest = page.split(begin + "\n")
        table = comparison["markdown"]([comparison["Comparison"](**row) for row in of_script["rows"]])
        summary = f"<details><summary>{len(of_script['rows'])} numbers</summary>"
        parts = [*(f"*{note}*" for note in of_script["notes"]), summary, table, "</details>"]
        page = f"{before}{begin}\n" + "\n\n".join(parts) + f"\n{END}{rest.partition(END)[2]}"
    return page


def draw(found: dict[str, Found], folder: Path) -> None:
    """Draw the curves of each script that was found."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "theory", "font.size": 9})
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for name, of_script in found.items():
        figure = _paint(of_script["curves"], PICTURES[name])
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, facecolor="white")
        plt.close(figure)


def _paint(curves: dict[str, dict[str, list[list[float]]]], picture: Picture) -> Any:
    """Return a figure with a panel for each group of curves; lines of one name have one colour."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogFormatterMathtext, NullFormatter

    names = list(dict.fromkeys(name for lines in curves.values() for name in lines))
    one_legend = len(names) < sum(map(len, curves.values())) or len(curves) == 1
    size = (max(5.5, 3.8 * len(curves)), 3.4)
    figure, panels = plt.subplots(1, len(curves), figsize=size, layout="constrained", squeeze=False, sharey=one_legend)
    for panel, (title, lines) in zip(panels[0], curves.items(), strict=True):
        for place, (name, points) in enumerate(lines.items()):
            colour = COLOURS[(names.index(name) if one_legend else place) % len(COLOURS)]
            panel.plot(*zip(*points, strict=True), LINES.get(name[:6], "-"), color=colour, label=name, linewidth=1.3)
        panel.set(xlabel=picture.x, title=title if len(curves) > 1 else None)
        panel.set_xscale("log" if picture.log_x else "linear")
        panel.set_yscale("log" if picture.log_y else "linear")
        for axis in (panel.xaxis, panel.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_formatter(LogFormatterMathtext())
                axis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3, which="both" if picture.log_x else "major")
        panel.spines[["top", "right"]].set_visible(False)
        if not one_legend:
            panel.legend(frameon=False, fontsize=7)
    panels[0][0].set_ylabel(picture.y)
    if one_legend:
        of_panels = [zip(*panel.get_legend_handles_labels(), strict=True) for panel in panels[0]]
        handles = {label: line for pairs in of_panels for line, label in pairs}
        figure.legend(handles.values(), handles.keys(), frameon=False, loc="outside right center")
    return figure


if __name__ == "__main__":
    main()
