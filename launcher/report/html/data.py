"""The data that the script of the page draws."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from launcher.report import palette
from launcher.report.axis import Axis
from launcher.report.panels import Panel
from launcher.report.report import Report
from launcher.report.series import Numbers, Series, band


def page_data(report: Report) -> dict[str, Any]:
    """Return runs, groups and charts as plain data; runs are named by their positions."""
    group_of = {member: index for index, group in enumerate(report.groups) for member in group.members}
    return {
        "axis": report.axis.value,
        "axes": {axis.value: {"heading": axis.heading, "seconds": axis.in_seconds} for axis in report.axes},
        "seeds": report.seeds,
        "groups": [
            {
                "label": group.label,
                "members": list(group.members),
                "colour": look.colour,
                "dash": list(palette.DASHES[look.dash]),
            }
            for group, look in zip(report.groups, report.looks.groups, strict=True)
        ],
        "factors": [
            {"key": factor.key, "values": list(factor.values), "positions": list(factor.positions)}
            for factor in report.looks.factors
        ],
        "crossed": report.looks.crossed,
        "dashes": [list(lengths) for lengths in palette.DASHES],
        "runs": [{"label": label, "group": group_of[index]} for index, label in enumerate(report.labels)],
        "charts": [_chart(report, chart) for chart in report.charts],
        "step_time_ms": [dict(record.step_time_ms) if record.step_time_ms else None for record in report.records],
    }


def _chart(report: Report, chart: Panel) -> dict[str, Any]:
    series = [chart.series(record) for record in report.records]
    return {
        "key": chart.key,
        "title": chart.title,
        "note": chart.note,
        "unit": chart.unit,
        "log": chart.log,
        "scalable": chart.scalable,
        "runs": [one and [*(_plain(one.x[axis], 9) for axis in report.axes), _plain(one.values)] for one in series],
        "bands": [_bands([series[member] for member in group.members], report.axes) for group in report.groups],
    }


def _bands(members: list[Series | None], axes: Iterable[Axis]) -> dict[str, Any] | None:
    """Return mean and standard deviation over a group, for each axis; None for a group of one run."""
    found = [one for one in members if one is not None]
    if len(members) == 1 or not found:
        return None
    over = {axis: band(found, axis) for axis in axes}
    names = ("x", "mean", "std", "count")
    return {axis.value: one and {name: _plain(getattr(one, name)) for name in names} for axis, one in over.items()}


def _plain(numbers: Numbers, digits: int = 6) -> list[float | None]:
    """Return numbers with few digits, and None for nan."""
    shortened = (float(f"{value:.{digits}g}") for value in numbers)
    return [None if math.isnan(value) else int(value) if value.is_integer() else value for value in shortened]
