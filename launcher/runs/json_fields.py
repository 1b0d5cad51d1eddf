"""Values out of files that may hold anything: what is not as it should be counts as absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_LARGEST = 2**53
"""Beyond it a whole number is no count of anything."""


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """Return a JSON list, an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """Return a text that says something."""
    return value if isinstance(value, str) and value.strip() else None


def whole(value: Any) -> int | None:
    """Return a whole number that can be a count: not negative, not astronomic."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None


def number(value: Any) -> float | None:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e300:
        return None
    return float(value) if math.isfinite(value) else None
