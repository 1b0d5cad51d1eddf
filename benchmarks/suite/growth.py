"""Whether something grows: the slope of its samples after a warm-up, against a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_WARM_UP = 1 / 3
_MOST_POINTS = 200
_LEAST_POINTS = 4

Sample = tuple[float, float]
"""How many units had passed, and the value then."""


@dataclass(frozen=True)
class Limit:
    """How much something may grow."""

    slope: float
    """A unit: a minute, a run, an iteration."""
    least: float
    """Growth over all samples after the warm-up that is no growth yet, however steep."""
    warm_up: float = 0.0
    """Units that a warm-up takes at the least, and that must be left after it."""


def slope(samples: Sequence[Sample]) -> float:
    """Return the median slope between any two samples (Theil-Sen): single outliers do not change it."""
    step = -(-len(samples) // _MOST_POINTS)
    at, values = np.array(samples[::step], dtype=float).T
    first, second = np.triu_indices(len(at), k=1)
    apart = at[second] - at[first]
    far = apart > 0
    if not far.any():
        return 0.0
    return float(np.median((values[second] - values[first])[far] / apart[far]))


def judge(samples: Sequence[Sample], limit: Limit) -> dict[str, Any] | None:
    """Return a row on how a series grew; None if it is too short to say.

    Returns:
        ``first`` and ``last`` value after the warm-up, the first third of the series; ``slope`` a unit; ``limit``;
        ``units`` that passed; and ``grows``: steeper than the limit, by more than :attr:`Limit.least` in all.
    """
    if not samples:
        return None
    begin, end = samples[0][0], samples[-1][0]
    warm_up = max((end - begin) * _WARM_UP, limit.warm_up)
    settled = [sample for sample in samples if sample[0] >= begin + warm_up]
    if len(settled) < _LEAST_POINTS or settled[-1][0] - settled[0][0] < limit.warm_up:
        return None
    rise = slope(settled)
    units = settled[-1][0] - settled[0][0]
    return {
        "samples": len(settled),
        "units": units,
        "first": settled[0][1],
        "last": settled[-1][1],
        "most": max(value for _, value in settled),
        "slope": rise,
        "limit": limit.slope,
        "grows": rise > limit.slope and rise * units > limit.least,
    }
