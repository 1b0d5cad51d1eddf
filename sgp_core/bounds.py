"""Bounds of the numbers in options, declared with the field of the dataclass, as in ``metadata=between(1, 9)``.

Who turns a user's words into options checks all of them by :func:`check_numbers`. So a number that no arithmetic can
use is refused wherever it stands, without a line for each option.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sgp_core.errors import ConfigurationError

_BOUNDS = "bounds"
_LARGEST_WHOLE = 2**63 - 1


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value of a number, both included."""

    least: float
    most: float


_USUAL = {
    int: Bounds(-_LARGEST_WHOLE - 1, _LARGEST_WHOLE),  # what tensors can hold
    float: Bounds(-sys.float_info.max, sys.float_info.max),
}


def between(least: float, most: float = _LARGEST_WHOLE) -> dict[str, Bounds]:
    """Return field metadata that bound the numbers of an option; each entry of a list is one of them.

    A number may be infinite only where ``most`` or ``least`` is.
    """
    return {_BOUNDS: Bounds(least, most)}


def check_numbers(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    """Refuse a value in which a number is not finite, or out of its bounds.

    Args:
        name: of the option, for messages.
        value: a number, or lists and dictionaries of them; anything else has no bounds.
        metadata: of the option's field.

    Raises:
        ConfigurationError: with the option, the number, and what it may be.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            check_numbers(name, entry, metadata)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        bounds = metadata.get(_BOUNDS, _USUAL[float if isinstance(value, float) else int])
        if bounds.least <= value <= bounds.most:
            return
        if isinstance(value, float) and not math.isfinite(value):
            wanted = "finite"
        else:
            wanted = f"at least {bounds.least}" if value < bounds.least else f"at most {bounds.most}"
        raise ConfigurationError(f"{name}={value}: must be {wanted}")
