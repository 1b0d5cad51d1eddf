"""Whether something grows: the slope of its samples in the second half, against their noise and a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_WARM_UP = 1 / 2
_MOST_POINTS = 200
_LEAST_POINTS = 4
_DEVIATION = 1.4826
"""By so much the standard deviation of a normal distribution exceeds its median absolute deviation."""

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
    at, values = _thin(samples)
    first, second = np.triu_indices(len(at), k=1)
    apart = at[second] - at[first]
    far = apart > 0
    if not far.any():
        return 0.0
    return float(np.median((values[second] - values[first])[far] / apart[far]))


def noise(samples: Sequence[Sample], rise: float) -> float:
    """Return the slope that chance alone may have: twice the spread of the samples around a line, over their length.

    Samples that follow each other are alike, so that their number does not make a slope more certain.

    Args:
        rise: the slope of that line.
    """
    at, values = _thin(samples)
    if at[-1] <= at[0]:
        return 0.0
    apart = values - rise * at
    spread = _DEVIATION * float(np.median(np.abs(apart - np.median(apart))))
    return 2 * spread / float(at[-1] - at[0])


def _thin(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Return not too many of the samples, as units and values."""
    step = -(-len(samples) // _MOST_POINTS)
    at, values = np.array(samples[::step], dtype=float).T
    return at, values


def judge(samples: Sequence[Sample], limit: Limit) -> dict[str, Any] | None:
    """Return a row on how a series grew; None if it is too short to say.

    Returns:
        ``first`` and ``last`` value of the second half; ``most`` in it; ``slope`` a unit and its ``noise``; ``limit``;
        ``units`` that passed; and ``grows``: steeper than the limit and than noise, by more than :attr:`Limit.least`.
    """
    if len(samples) <= _LEAST_POINTS:
        return None
    begin, end = samples[0][0], samples[-1][0]
    half = [sample for sample in samples if sample[0] >= begin + (end - begin) * _WARM_UP]
    half = half if len(half) >= _LEAST_POINTS else list(samples[-_LEAST_POINTS:])
    settled = [sample for sample in half if sample[0] >= begin + limit.warm_up]
    if len(settled) < _LEAST_POINTS or settled[-1][0] - settled[0][0] < limit.warm_up:
        return None
    rise = slope(settled)
    chance = noise(settled, rise)
    units = settled[-1][0] - settled[0][0]
    return {
        "samples": len(settled),
        "units": units,
        "first": settled[0][1],
        "last": settled[-1][1],
        "most": max(value for _, value in settled),
        "slope": rise,
        "noise": chance,
        "limit": limit.slope,
        "grows": rise > max(limit.slope, chance) and rise * units > limit.least,
    }
