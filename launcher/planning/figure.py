"""The picture of a plan: the predicted step of every candidate, and how much of it is computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.planning.evaluation import Evaluated
from launcher.report.palette import LIGHT
from sgp_core.atomic_files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COMPUTE = "#c9d0d9"
_COLOURS = {"none": LIGHT[0], "close": LIGHT[2], "departs": LIGHT[1]}
_WORDS = {"none": "waits; as AllReduce", "close": "waits; close to it", "departs": "waits; learns otherwise"}
_MOST = 16
"""Candidates in a panel."""


def save_figure(found: Mapping[int, Sequence[Evaluated]], title: str, path: Path) -> None:
    """Draw a panel for each number of workers, the fastest candidate on top, to a PNG, SVG or PDF file.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "sgp"}):
        drawn = {workers: _chosen(rows) for workers, rows in found.items()}
        height = 1.2 + 0.26 * max(map(len, drawn.values()))
        figure = Figure(figsize=(7.5 * len(drawn), height), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(drawn), squeeze=False)[0]
        for axes, (workers, rows) in zip(panels, drawn.items(), strict=True):
            _panel(axes, workers, rows)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        kind = path.suffix.removeprefix(".") or "png"
        with replace_file(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)


def _chosen(rows: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the fastest, and AllReduce, torch's DDP and the experiment's own choice wherever they are."""
    kept = [
        row
        for at, row in enumerate(rows)
        if at < _MOST or row.is_allreduce or row.candidate.reference or row.candidate.own
    ]
    return kept[::-1]


def _panel(axes: Axes, workers: int, rows: Sequence[Evaluated]) -> None:
    labelled: set[str] = set()
    for at, row in enumerate(rows):
        step, compute = row.prediction.step_s * 1e3, row.prediction.compute_s * 1e3
        kind = row.departure if row.departure in _COLOURS else "departs"
        label = None if kind in labelled else _WORDS[kind]
        axes.barh(at, min(step, compute), color=_COMPUTE, label=None if labelled else "computes")
        axes.barh(at, max(0.0, step - compute), left=min(step, compute), color=_COLOURS[kind], label=label)
        labelled.add(kind)
    baseline = min(row.prediction.step_s for row in rows if row.is_allreduce or row.candidate.reference)
    axes.axvline(baseline * 1e3, color=_COLOURS["none"], linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [row.candidate.label + (" (own)" if row.candidate.own else "") for row in rows])
    axes.set_xlabel("ms a step, predicted")
    axes.set_title(f"{workers} workers", loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.legend(frameon=False, loc="lower right")
