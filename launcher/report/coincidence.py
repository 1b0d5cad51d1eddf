"""Curves that cannot be told apart where they are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from launcher.report.series import Numbers

WIDTH_OF_A_LINE = 0.007
"""As a share of a chart's height and width."""

Curve = tuple[Numbers, Numbers]
"""Positions from left to right, and values."""


def find_coinciding(curves: Sequence[Curve]) -> list[list[int]]:
    """Return sets of two or more positions: curves that lie within a line's width of the first of their set."""
    if not curves:
        return []
    width, height = (max(float(np.ptp(np.concatenate(axis))), 1e-300) for axis in zip(*curves, strict=True))
    scaled = [(x / width, y / height) for x, y in curves]
    sets: list[list[int]] = []
    for index, curve in enumerate(scaled):
        same = next((one for one in sets if _coincide(scaled[one[0]], curve)), None)
        if same is None:
            sets.append([index])
        else:
            same.append(index)
    return [one for one in sets if len(one) > 1]


def _coincide(a: Curve, b: Curve) -> bool:
    if not _near(a[0][[0, -1]], b[0][[0, -1]]):
        return False
    return _near(a[1], np.interp(a[0], *b)) and _near(b[1], np.interp(b[0], *a))


def _near(a: Numbers, b: Numbers) -> bool:
    return bool(np.all(np.abs(a - b) <= WIDTH_OF_A_LINE))
