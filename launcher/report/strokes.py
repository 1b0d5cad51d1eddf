"""How the lines of a figure are drawn, so that curves that coincide are all seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launcher.report import palette
from launcher.report.looks import Look

_WIDTH, _CASING, _STRIPE = 1.7, 5.5, 7.0
"""In points."""


@dataclass(frozen=True)
class Stroke:
    """A line.

    Attributes:
        stripe: which stripe of a line of several colours this is, and of how many; None for a line of its own.
        dash: of all stripes; solid if they differ.
        casing: whether it is the wide, pale line below another.
    """

    look: Look
    stripe: tuple[int, int] | None = None
    dash: int = 0
    casing: bool = False

    def style(self) -> dict[str, Any]:
        """Return the line's properties for matplotlib, which counts dashes in widths of the line."""
        style: dict[str, Any] = {"color": palette.LIGHT[self.look.colour], "linewidth": _WIDTH}
        if self.stripe is not None:
            place, count = self.stripe
            turn = [length / 2 for length in palette.DASHES[self.dash]] or [_STRIPE / _WIDTH, 0.0]
            pattern = (*turn[:-1], turn[-1] + (count - 1) * sum(turn))
            style |= {"linestyle": (-place * sum(turn), pattern), "dash_capstyle": "butt"}
        elif palette.DASHES[self.look.dash]:
            style["dashes"] = [length / 2 for length in palette.DASHES[self.look.dash]]
        if self.casing:
            style |= {"linewidth": _CASING, "alpha": 0.38, "zorder": 1.9}
        return style


def line_strokes(looks: Sequence[Look], sets: Sequence[Sequence[int]]) -> list[Stroke]:
    """Return a stroke for each curve.

    Curves of several colours that coincide are the stripes of one line. Of curves of one colour, those
    with other dashes than the last are its casing.

    Args:
        sets: the positions of curves that coincide, those with solid lines first.
    """
    strokes = [Stroke(look) for look in looks]
    for one in sets:
        colours = list(dict.fromkeys(looks[index].colour for index in one))
        dashes = {looks[index].dash for index in one}
        dash = min(dashes) if len(dashes) == 1 else 0
        for index in one:
            if len(colours) > 1:
                stripe = colours.index(looks[index].colour), len(colours)
                strokes[index] = Stroke(looks[index], stripe, dash)
            else:
                strokes[index] = Stroke(looks[index], casing=looks[index] != looks[one[-1]])
    return strokes
