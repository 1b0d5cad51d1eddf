"""Messages of ``sgp-train`` about what could not be done."""

from __future__ import annotations

import contextlib
import sys


def print_failure(problem: object, code: int) -> int:
    """Print a problem on stderr, and return the exit code that goes with it; the code is all where stderr fails."""
    with contextlib.suppress(OSError):
        print(f"sgp-train: {problem}", file=sys.stderr)
    return code
