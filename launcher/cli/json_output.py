"""Strict JSON output of commands."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_json(content: Any) -> None:
    """Print ``content``; numbers that JSON cannot hold (nan, inf) become null."""
    print(json.dumps(jsonable(content), indent=2, allow_nan=False), flush=True)


def jsonable(value: Any) -> Any:
    """Return ``value`` as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
