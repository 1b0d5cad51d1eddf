"""Colours that people with any colour vision can tell apart, and dashes for more curves than there are colours.

Simulated for protanopia, deuteranopia and tritanopia, any two lie at least 10 apart in CIE Lab, the first four 17.
"""

from __future__ import annotations

LIGHT = ("#14509e", "#c94f14", "#12a17b", "#cf76ab", "#d0a01c", "#62a9cf", "#5f2a16", "#69737f")
DARK = ("#5b93ec", "#ea6a26", "#4fd6a6", "#dd8cc4", "#f1d164", "#b4dcf0", "#a8664c", "#8a94a3")
"""The same hues for a dark background."""

DASHES = ((), (7.0, 4.0), (2.0, 3.0), (9.0, 3.0, 2.0, 3.0))
"""Lengths of line and gap, in pixels of the page; the first is solid."""

PARTS = {"data": "#c9d0d9", "compute": "#8593a6", "communication": "#2f435f"}
PARTS_DARK = {"data": "#3a4350", "compute": "#6c7b8f", "communication": "#a9bad2"}
"""The parts of a step's time, in shades of grey: hues stand for runs."""


def style(index: int) -> tuple[int, int]:
    """Return the positions of colour and dash of the curve ``index``."""
    return index % len(LIGHT), index // len(LIGHT) % len(DASHES)
