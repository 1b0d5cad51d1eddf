"""How curves look: a colour and a dash for each group of runs.

In a sweep of two settings the colour stands for the value of one and the dash for the value of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.report import palette


@dataclass(frozen=True)
class Factor:
    """A setting in which groups differ and which all of them have.

    Attributes:
        key: its name on the command line.
        values: its values as charts call them, in the order in which they come.
        positions: of each group's value among ``values``.
    """

    key: str
    values: tuple[str, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Look:
    """Positions in the palette."""

    colour: int
    dash: int


@dataclass(frozen=True)
class Looks:
    """The looks of all groups.

    Attributes:
        groups: the look of each group.
        factors: the settings in which the groups differ, if there are at least two.
        crossed: whether colours stand for the first factor's values and dashes for the second's.
    """

    groups: tuple[Look, ...]
    factors: tuple[Factor, ...] = ()
    crossed: bool = False


def choose_looks(values: Sequence[Mapping[str, str]]) -> Looks:
    """Return looks that tell groups apart: as many as the palette has, and then from the start.

    Args:
        values: of each group, its name for the value of every setting in which the groups differ.
    """
    factors = _factors(values)
    if _crossed(factors):
        factors.sort(key=lambda factor: -len(factor.values))  # there are more colours than dashes
        colour, dash = factors
        looks = [Look(*pair) for pair in zip(colour.positions, dash.positions, strict=True)]
        return Looks(tuple(looks), (colour, dash), crossed=True)
    looks = [Look(*palette.style(index)) for index in range(len(values))]
    return Looks(tuple(looks), tuple(factors) if len(factors) > 1 else ())


def _factors(values: Sequence[Mapping[str, str]]) -> list[Factor]:
    """Return the settings that all groups have; of settings that change together, the first."""
    factors: list[Factor] = []
    for key in values[0] if values else ():
        if any(key not in one for one in values):
            continue
        names = tuple(dict.fromkeys(one[key] for one in values))
        positions = tuple(names.index(one[key]) for one in values)
        if len(names) > 1 and positions not in [factor.positions for factor in factors]:
            factors.append(Factor(key, names, positions))
    return factors


def _crossed(factors: Sequence[Factor]) -> bool:
    """Whether groups differ by two settings, each of which changes while the other stays."""
    if len(factors) != 2:
        return False
    counts = sorted(len(factor.values) for factor in factors)
    groups = list(zip(factors[0].positions, factors[1].positions, strict=True))
    told_apart = len(set(groups)) == len(groups) > counts[-1]
    return told_apart and counts[0] <= len(palette.DASHES) and counts[-1] <= len(palette.LIGHT)
