"""Waiting in tests. Only a hang reaches a limit here: a machine that is busy never decides what a test says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 300.0
"""How long to wait for something that an idle machine does in seconds."""
LONG_PATIENCE_S = 900.0
"""How long to wait for something that an idle machine does in a minute."""


def wait_until(
    condition: Callable[[], T],
    what: str | Callable[[], str] = "it",
    *,
    works: Callable[[], bool] = lambda: True,
    patience_s: float = PATIENCE_S,
) -> T:
    """Wait until ``condition`` returns something true, and return that.

    Args:
        what: what is waited for, as the message says it.
        works: whether the processes that should bring it about still live. Once they do not, waiting ends.

    Raises:
        AssertionError: it does not come.
    """
    end = time.monotonic() + patience_s
    while True:
        worked = works()  # asked first: what a process did before it ended counts
        if found := condition():
            return found
        if not worked or time.monotonic() > end:
            why = f"after {patience_s:.0f} s" if worked else "because its process has ended"
            raise AssertionError(f"{what if isinstance(what, str) else what()} did not come, {why}")
        time.sleep(0.05)
