"""Checks of options. Each refuses a value in one sentence: the option, what it must be, what it is."""

from __future__ import annotations

import math
from enum import Enum
from typing import TypeVar

from sgp_core.errors import ConfigurationError, did_you_mean

E = TypeVar("E", bound=Enum)


def require(holds: bool, name: str, wanted: str, value: object) -> None:
    """Refuse the option ``name`` unless ``holds``.

    Raises:
        ConfigurationError: "``name`` must be ``wanted``, not ``value``".
    """
    if not holds:
        raise ConfigurationError(f"{name} must be {wanted}, not {value}")


def at_least(least: int, name: str, value: int | None) -> None:
    """Refuse a value, unless it is None, that is not a whole number of at least ``least``."""
    if value is None:
        return
    require(isinstance(value, int) and not isinstance(value, bool), name, f"a whole number, at least {least}", value)
    require(value >= least, name, f"at least {least}", value)


def positive(name: str, value: float) -> None:
    """Refuse a value that is not positive and finite."""
    require(0 < value < math.inf, name, "positive", value)


def not_negative(name: str, value: float) -> None:
    """Refuse a value that is negative or not finite."""
    require(0 <= value < math.inf, name, "zero or more, and finite", value)


def below_one(name: str, value: float) -> None:
    """Refuse a value outside of [0, 1)."""
    require(0 <= value < 1, name, "in [0, 1)", value)


def one_of(kind: type[E], name: str, value: object) -> E:
    """Return the member of an enum that ``value`` names.

    Raises:
        ConfigurationError: there is none; the message suggests the nearest.
    """
    try:
        return kind(value)
    except ValueError:
        known = [str(member.value) for member in kind]
        raise ConfigurationError(f"{name} cannot be '{value}'{did_you_mean(str(value), known)}") from None
