"""Messages of ``sgp-train`` about what could not be done."""

from __future__ import annotations

import contextlib
import sys

_LONGEST_LINE = 1000


def print_failure(problem: object, code: int) -> int:
    """Print a problem on stderr, and return the exit code that goes with it; the code is all where stderr fails.

    It is one line, although a user's word in it may have line ends, control characters, or thousands of characters.
    """
    line = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(problem))
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
    with contextlib.suppress(OSError):
        print(f"sgp-train: {line}", file=sys.stderr)
    return code
