"""Fragments of a model whose averages take turns: which one is cut how, and which one's turn it is.

Douillard, Donchev, Rush et al., "Streaming DiLoCo with overlapping communication: Towards a Distributed Free Lunch",
2025, arXiv 2501.18512.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sgp_core.tensors.flat_vector import FlatVector

_STRETCHES = 8
"""Stretches of a strided fragment: it reaches into so many depths of the model, as layers in turn would."""


class FragmentPattern(str, Enum):
    """Which elements of a model make a fragment."""

    strided = "strided"
    """The model is cut into many equal stretches, which the fragments get in turn: each has layers of every depth."""
    sequential = "sequential"
    """Each fragment is one stretch."""


@dataclass(frozen=True)
class FragmentTurns:
    """``count`` fragments, each averaged every ``tau`` steps, at even distances from each other.

    They are cut from the flat vector, as equal as whole elements can be: cut between layers, an embedding of half the
    model would be half of the traffic in one step. An outer optimizer treats every element by itself, so a cut inside
    of a parameter changes nothing but when its elements have their turn.
    """

    tau: int
    count: int
    pattern: FragmentPattern

    @property
    def distance(self) -> int:
        """The least number of steps from one fragment's turn to the next."""
        return self.tau // self.count

    def turn_after(self, steps: int) -> int | None:
        """Return the fragment whose turn it is when ``steps`` steps are done; None: no one's. The last one's is tau."""
        place = steps % self.tau or self.tau
        ordinal = -(-place * self.count // self.tau)  # the first whose turn is not before this step
        return ordinal - 1 if ordinal * self.tau // self.count == place else None

    def cut(self, x: FlatVector, number: int) -> FlatVector:
        """Return one fragment of a vector that is laid out like the model, sharing memory."""
        return x.fragment(number, self.count, _STRETCHES if self.pattern is FragmentPattern.strided else 1)
