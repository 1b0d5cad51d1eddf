"""Failures of workers by a seeded list, inflicted from outside: SIGKILL, or SIGSTOP for good."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from dataclasses import dataclass

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass(frozen=True)
class Failure:
    """What befalls one worker."""

    at_s: float
    """Seconds after all workers train."""
    rank: int
    how: str
    """``kill`` or ``stop``."""

    def inflict(self, pid: int | None) -> bool:
        """Send the signal; return False if there is no such process."""
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, SIGNALS[self.how])
                return True
        return False


def every(interval_s: float | None, duration_s: float, workers: int, seed: int, hows: list[str]) -> list[Failure]:
    """Return one failure in each interval, at a random moment of its middle half; none if the interval is None.

    The same for the same arguments, wherever it is asked; each of ``hows`` as often as any other, give or take one.
    """
    if interval_s is None:
        return []
    source = random.Random(f"{seed} {interval_s:g}")
    found: list[Failure] = []
    while (begin := len(found) * interval_s) + interval_s <= duration_s + 1e-9:
        if len(found) % len(hows) == 0:
            order = source.sample(hows, len(hows))
        at = begin + interval_s * source.uniform(0.25, 0.75)
        found.append(Failure(at, source.randrange(workers), order[len(found) % len(hows)]))
    return found
