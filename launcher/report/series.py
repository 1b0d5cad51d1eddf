"""A series: one metric of one run, over each horizontal axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launcher.report.axis import Axis
from launcher.runs.json_fields import number

Numbers = NDArray[np.float64]

MAX_POINTS = 600
"""The most points of a curve that are drawn: a screen has no more pixels for it."""


@dataclass(frozen=True)
class Series:
    """Finite values of a metric, and the positions at which they were measured, which may be nan, in order of steps."""

    x: Mapping[Axis, Numbers]
    values: Numbers

    def __len__(self) -> int:
        return len(self.values)

    def over(self, axis: Axis) -> tuple[Numbers, Numbers]:
        """Return positions and values from left to right; points without a position on this axis are left out."""
        at = self.x[axis]
        known = np.isfinite(at)
        order = np.argsort(at[known], kind="stable")
        return at[known][order], self.values[known][order]

    def thin(self, most: int = MAX_POINTS) -> Series:
        """Return at most ``most`` points: the first, the last, and the extremes of each stretch between."""
        if len(self) <= most:
            return self
        stretches = np.array_split(np.arange(1, len(self) - 1), (most - 2) // 2)
        chosen = {0, len(self) - 1}
        for stretch in stretches:
            inside = self.values[stretch]
            chosen |= {int(stretch[inside.argmin()]), int(stretch[inside.argmax()])}
        kept = np.array(sorted(chosen))
        return Series({axis: at[kept] for axis, at in self.x.items()}, self.values[kept])


def series_of(rows: Iterable[Mapping[str, Any]], metric: str) -> Series:
    """Return the curve of a metric, one point a step; rows without a finite number for it are left out."""
    points: dict[float, tuple[float, ...]] = {}
    for row in rows:
        step, value = number(row.get("step")), number(row.get(metric))
        if step is not None and value is not None:
            places = [number(row.get(axis.metric.name)) for axis in Axis]
            points[step] = (*(math.nan if place is None else place for place in places), value)
    table = np.array([points[step] for step in sorted(points)], dtype=np.float64).reshape(-1, len(Axis) + 1)
    return Series({axis: table[:, column] for column, axis in enumerate(Axis)}, table[:, -1])


@dataclass(frozen=True)
class Band:
    """Several runs at each position, over those that had come so far.

    Attributes:
        std: the sample standard deviation; 0 where there is one run.
        count: the number of runs.
    """

    x: Numbers
    mean: Numbers
    std: Numbers
    count: Numbers

    @property
    def low(self) -> Numbers:
        """One standard deviation below the mean."""
        return self.mean - self.std

    @property
    def high(self) -> Numbers:
        """One standard deviation above the mean."""
        return self.mean + self.std


def band(series: Sequence[Series], axis: Axis) -> Band | None:
    """Average several runs, each interpolated between its own points and never beyond them; None without any."""
    curves = [(x, y) for x, y in (one.over(axis) for one in series) if len(x)]
    if not curves:
        return None
    x = np.unique(np.concatenate([at for at, _ in curves]))
    if len(x) > MAX_POINTS:
        x = np.linspace(x[0], x[-1], MAX_POINTS)
    values = np.array([np.interp(x, at, y, left=np.nan, right=np.nan) for at, y in curves])
    count = np.isfinite(values).sum(axis=0)
    x, values, count = x[count > 0], values[:, count > 0], count[count > 0]
    mean = np.nanmean(values, axis=0)
    std = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / np.maximum(count - 1, 1))
    return Band(x, mean, std, count)
