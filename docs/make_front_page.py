"""Draw what the front page leads with, and write its table, from the tables of docs/benchmarks.md.

    python docs/make_front_page.py

Run it after ``make_benchmarks.py``: the figures are those that were measured there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BENCHMARKS = HERE / "benchmarks.md"
FRONT = HERE.parent / "README.md"
PICTURE = HERE / "images" / "front_page.svg"
BEGIN, END = "<!-- front page, written by docs/make_front_page.py -->", "<!-- end of front page -->"

NETWORK = "8 workers, 200 Mbit/s"
STALLS = "in a step, with probability 0.25, one random worker takes 5 times as long"

NAMES = {
    "torch DDP": "AllReduce (torch DDP)",
    "torch DDP, 1 MB buckets": "AllReduce, 1 MB buckets",
    "sgp": "`sgp`",
    "osgp, overlap_steps=1": "`osgp`",
    "osgp, int8": "`osgp`, int8",
}
"""Rows of the slow network that are shown, and what they are called."""

STALLED = {
    "allreduce": "AllReduce",
    "sgp": "`sgp`",
    "osgp, overlap_steps=1": "`osgp`",
    "osgp, overlap_steps=4": "`osgp`, 4 steps late",
    "asgp": "`asgp`",
}
"""Rows of the stragglers that are shown; without messages there is ``no messages``, the least that is possible."""


def rows(page: str, caption: str) -> dict[str, dict[str, str]]:
    """Return the table that follows ``**caption**``: its rows by their first cell, cells by their column."""
    _, found, rest = page.partition(f"**{caption}**")
    if not found:
        raise ValueError(f"docs/benchmarks.md has no table '{caption}'")
    lines = re.search(r"\n(\|.*\n)+", rest)
    assert lines is not None
    heading, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].split("\n") if line]
    return {cells[0]: dict(zip(heading, cells, strict=True)) for cells in body}


def seconds_to_loss(page: str) -> dict[str, float]:
    """Return the seconds to loss on the slow network, by name."""
    found = rows(page, NETWORK)
    return {name: float(found[row]["seconds to loss"]) for row, name in NAMES.items()}


def stalled_ms(page: str) -> tuple[dict[str, float], float]:
    """Return the mean time of a step among random stalls in ms, by name, and that of workers which never wait."""
    found = rows(page, STALLS)
    return {name: float(found[row]["mean"]) for row, name in STALLED.items()}, float(found["no messages"]["mean"])


def table(page: str) -> str:
    """Return the Markdown table."""
    seconds, (stalled, _) = seconds_to_loss(page), stalled_ms(page)
    slowest, longest = next(iter(seconds.values())), next(iter(stalled.values()))
    lines = ["| 8 workers, 200 Mbit/s | seconds to loss | | 8 workers, random stalls | ms a step | |"]
    lines.append("|---|---:|---:|---|---:|---:|")
    for (left, took), (right, step) in zip(seconds.items(), stalled.items(), strict=True):
        lines.append(f"| {left} | {took:.1f} | {slowest / took:.1f}x | {right} | {step:.0f} | {longest / step:.1f}x |")
    return "\n".join(lines)


def with_table(front: str, page: str) -> str:
    """Return the front page with a fresh table."""
    before, _, rest = front.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(page)}\n{END}{after}"


def draw(page: str, path: Path) -> None:
    """Draw both comparisons as bars."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "front page", "font.family": "sans-serif"}
    seconds, (stalled, least) = seconds_to_loss(page), stalled_ms(page)
    with plt.rc_context(style):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 2.7), layout="constrained")
        _bars(left, seconds, "{:.1f} s")
        left.set_title("8 workers, 200 Mbit/s: seconds to the same loss", fontsize=10, loc="left")
        _bars(right, stalled, "{:.0f} ms")
        right.axvline(least, color="#161b22", linewidth=1, linestyle=":")
        right.set_title("8 workers, random stalls: a step (dotted: no waiting)", fontsize=10, loc="left")
        figure.savefig(path, format="svg", metadata={"Date": None}, facecolor="white")
        plt.close(figure)


def _bars(axes: Any, values: dict[str, float], label: str) -> None:
    names = [name.replace("`", "") for name in values]
    colours = ["#69737f" if name.startswith("AllReduce") else "#14509e" for name in names]
    bars = axes.barh(names, list(values.values()), color=colours)
    axes.bar_label(bars, [label.format(value) for value in values.values()], padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(values.values()))
    axes.tick_params(length=0)
    axes.set_xticks([])
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def main() -> None:
    """Write the table and draw the picture."""
    page = BENCHMARKS.read_text(encoding="utf-8")
    FRONT.write_text(with_table(FRONT.read_text(encoding="utf-8"), page), encoding="utf-8")
    draw(page, PICTURE)


if __name__ == "__main__":
    main()
