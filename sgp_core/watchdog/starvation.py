"""How long a thread could have run, and did not: a machine that is too busy is no hang."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path


class Starvation:
    """Seconds for which the thread that makes this has waited for a processor, as Linux counts them.

    A processor that others use, and a quota of the container that is used up, both count. A thread that sleeps, waits
    for a lock or for a message, or is stopped, does not wait for a processor. It is counted when the thread runs again.
    """

    def __init__(self) -> None:
        self._file = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._waited_ns = self._read()

    def more_s(self) -> float:
        """Return the seconds since the last call; 0 where the system does not say."""
        before, self._waited_ns = self._waited_ns, self._read()
        return max(self._waited_ns - before, 0) / 1e9

    def _read(self) -> int:
        with suppress(OSError, ValueError, IndexError):
            return int(self._file.read_text().split()[1])
        return 0
