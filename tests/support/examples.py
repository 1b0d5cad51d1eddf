"""How many examples a property is tested with: few each time, more where it is asked for."""

from __future__ import annotations

import os

FACTOR = int(os.environ.get("SGP_EXAMPLES", "1"))
"""``SGP_EXAMPLES=20`` tests every property with twenty times as many examples."""


def examples(few: int) -> int:
    """Return how many examples a property gets that is usually tested with ``few``."""
    return few * FACTOR
