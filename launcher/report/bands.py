"""Several runs as one curve: their mean, and the range between lowest and highest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from launcher.report.axis import Axis
from launcher.report.series import MAX_POINTS, Numbers, Series


@dataclass(frozen=True)
class Band:
    """At each position, over the runs that had come so far."""

    x: Numbers
    mean: Numbers
    low: Numbers
    high: Numbers
    count: Numbers
    """How many runs that is."""


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
    return Band(x, np.nanmean(values, axis=0), np.nanmin(values, axis=0), np.nanmax(values, axis=0), count)
