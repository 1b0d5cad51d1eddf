"""Messages of ``sgp-train`` about what could not be done."""

from __future__ import annotations

import sys


def print_failure(problem: object, code: int) -> int:
    """Print a problem on stderr, and return the exit code that goes with it."""
    print(f"sgp-train: {problem}", file=sys.stderr)
    return code
