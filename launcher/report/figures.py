"""The charts of a report as image files, one each, for papers and slides."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from launcher.report import palette
from launcher.report.coincidence import find_coinciding
from launcher.report.figure_style import INK, MUTED, STYLE
from launcher.report.panels import Panel
from launcher.report.record import TIMES
from launcher.report.report import Report
from launcher.report.series import Band, band
from launcher.report.strokes import Stroke, line_strokes
from launcher.runs.number_format import milliseconds, size
from sgp_core.atomic_files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES_BELOW_ONE_ANOTHER = 16
_MOST_NAMES, _NOTE_WIDTH = 3, 96


def save_figures(report: Report, folder: Path, formats_wanted: Sequence[str]) -> list[Path]:
    """Draw every chart of ``report`` into ``folder`` in each of the formats (png, svg); return the files."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    written = []
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about flat curves on a logarithmic scale
        for name, figure in _figures(report):
            FigureCanvasAgg(figure)
            for kind in formats_wanted:
                path = folder / f"{name}.{kind}"
                metadata = {"Date": None} if kind == "svg" else None
                with replace_file(path) as temporary:
                    figure.savefig(temporary, format=kind, bbox_inches="tight", pad_inches=0.15, metadata=metadata)
                written.append(path)
    return written


def _figures(report: Report) -> Iterator[tuple[str, Figure]]:
    for chart in report.charts:
        yield chart.key, _curves(report, chart)
    yield "step_time", _step_time(report)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with axes of about this size in inches; labels and legends make the file larger."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _curves(report: Report, chart: Panel) -> Figure:
    figure, axes = _figure(6.4, 3.9)
    axes.set_title(chart.title)
    unit, name = _unit_of_time(report) if report.axis.in_seconds else (1.0, "")
    bands: dict[int, tuple[Band, bool]] = {}
    absent: list[str] = []
    for index, group in enumerate(report.groups):
        series = [one for member in group.members if (one := chart.series(report.records[member])) is not None]
        if (curve := band(series, report.axis)) is not None:
            bands[index] = (curve, len(series) > 1)
        elif series:
            absent.append(group.label)
    if not bands:
        return _empty(figure, axes, "Nothing is on this axis" if absent else "No data yet")
    sets = _coinciding(report, chart, {index: curve for index, (curve, _) in bands.items()})
    strokes = line_strokes(report.looks.groups, sets)
    for index, (curve, several) in bands.items():
        style = strokes[index].style()
        x, mean = curve.x / unit, _positive(chart, curve.mean)
        axes.plot(x, mean, marker="o" if len(x) == 1 else None, markersize=4, **style)
        if several:
            low = _positive(chart, curve.low)
            axes.fill_between(x, low, curve.high, color=style["color"], alpha=0.16, linewidth=0)
    if chart.log and any(np.any(curve.mean > 0) for curve, _ in bands.values()):  # a worker alone has no distance
        axes.set_yscale("log", nonpositive="mask")
    if chart.unit == "bytes":
        axes.yaxis.set_major_formatter(lambda value, _: size(value))
        axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.set_xlim(0, _end(report) / unit)
    axes.set_xlabel(f"{report.axis.heading} ({name})" if name else report.axis.heading, loc="right")
    if len(bands) > 1:
        _add_legend(axes, [(report.groups[index].label, Stroke(report.looks.groups[index])) for index in bands])
    note = _name_coinciding([[report.groups[index].label for index in one] for one in sets])
    if absent:
        note = f"{note} Without {report.axis.metric.label}: {_enumerate(absent, ', ', 'curves')}.".lstrip()
    _add_note(axes, note)
    return figure


def _coinciding(report: Report, chart: Panel, curves: Mapping[int, Band]) -> list[list[int]]:
    """Return the sets of groups whose curves coincide, those with a solid line first."""
    drawn = {}
    for index, curve in curves.items():
        on = curve.mean > 0 if chart.log else np.full(len(curve.mean), fill_value=True)
        if np.any(on):
            drawn[index] = (curve.x[on], np.log(curve.mean[on]) if chart.log else curve.mean)
    groups = sorted(drawn, key=lambda group: report.looks.groups[group].dash)
    return [[groups[position] for position in one] for one in find_coinciding([drawn[group] for group in groups])]


def _add_legend(axes: Axes, names: Sequence[tuple[str, Stroke]]) -> None:
    from matplotlib.lines import Line2D

    axes.legend(
        handles=[Line2D([], [], label=_text(label), **stroke.style()) for label, stroke in names],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        ncols=-(-len(names) // _NAMES_BELOW_ONE_ANOTHER),
        labelcolor=INK,
        handlelength=1.6,
        borderaxespad=0.0,
    )


def _name_coinciding(sets: Sequence[Sequence[str]]) -> str:
    """Return a sentence about the curves that coincide; empty if none do."""
    named = _enumerate([", ".join(names) for names in sets], "; ", "sets")
    return f"Within the width of a line, these coincide: {named}." if named else ""


def _enumerate(names: Sequence[str], sign: str, what: str) -> str:
    """Return the first names with a sign between them, and how many more there are of what."""
    more = [f"and {len(names) - _MOST_NAMES} more {what}"] if len(names) > _MOST_NAMES else []
    return sign.join([*names[:_MOST_NAMES], *more])


def _add_note(axes: Axes, note: str) -> None:
    """Write a note below the chart."""
    if note:
        text, below = fill(_text(note), _NOTE_WIDTH), (0, -38)
        axes.annotate(
            text, (0, 0), xytext=below, xycoords="axes fraction", textcoords="offset points", va="top", color=MUTED
        )


def _positive(chart: Panel, values: Any) -> Any:
    """Return the values with nan in place of zeros on a logarithmic scale."""
    return np.where(values > 0, values, np.nan) if chart.log else values


def _text(label: str) -> str:
    """Return a label that matplotlib shows as it is: not as a formula, nor hidden for a leading underscore."""
    return f"{' ' if label.startswith('_') else ''}{label}".replace("$", r"\$")


def _end(report: Report) -> float:
    """Return the end of the horizontal axis, the same in all charts."""
    curves = [chart.series(record) for chart in report.charts for record in report.records]
    ends = [float(curve.over(report.axis)[0][-1]) for curve in curves if curve and len(curve.over(report.axis)[0])]
    return max(ends, default=1.0) or 1.0


def _unit_of_time(report: Report) -> tuple[float, str]:
    longest = _end(report)
    if longest < 300:
        return 1.0, "s"
    return (60.0, "min") if longest < 4 * 3600 else (3600.0, "h")


def _step_time(report: Report) -> Figure:
    from matplotlib.transforms import ScaledTranslation

    rows = []
    for group in report.groups:
        known = [spent for member in group.members if (spent := report.records[member].step_time_ms) is not None]
        if known:
            rows.append((_text(group.label), [sum(spent[part] for spent in known) / len(known) for part in TIMES]))
    figure, axes = _figure(7.2, 1.1 + 0.3 * max(2, len(rows)))
    axes.set_title("Time per step (ms)")
    if not rows:
        return _empty(figure, axes)
    left = np.zeros(len(rows))
    for column, part in enumerate(TIMES):
        lengths = np.array([spent[column] for _, spent in rows])
        axes.barh(np.arange(len(rows)), lengths, left=left, height=0.55, color=palette.PARTS[part], label=part)
        left += lengths
    for row, total in enumerate(left):
        axes.annotate(
            milliseconds(total),
            (total, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=MUTED,
        )
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(np.arange(len(rows)), [label for label, _ in rows])
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelcolor=INK)
    below = axes.transAxes + ScaledTranslation(0, -0.3, figure.dpi_scale_trans)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, ncols=3, handlelength=1, borderpad=0)
    return figure


def _empty(figure: Figure, axes: Axes, why: str = "No data yet") -> Figure:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    return figure
