"""Clocks that jump, and services that do not answer."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sgp_core.faults.base import FAULTS, Moment, StepFault


@FAULTS.register("clock_jump")
@dataclass(frozen=True, kw_only=True)
class ClockJump(StepFault):
    """The time of day jumps, as ``time.time`` tells it in the worker; the monotonic clock goes on.

    Args:
        seconds: by how much; negative: back.
    """

    seconds: float

    def strike(self, moment: Moment) -> None:
        tell, tell_ns = time.time, time.time_ns
        time.time = lambda: tell() + self.seconds
        time.time_ns = lambda: tell_ns() + int(self.seconds * 1e9)


@FAULTS.register("wandb_down")
@dataclass(frozen=True, kw_only=True)
class WandbDown(StepFault):
    """Weights & Biases answers no more: its service on this host, which worker 0 talks to, is stopped."""

    def strike(self, moment: Moment) -> None:
        for process in _descendants(os.getpid()):
            with suppress(OSError):
                if "wandb" in Path(f"/proc/{process}/cmdline").read_text():
                    os.kill(process, signal.SIGSTOP)


def _descendants(root: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found, level = [], {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found += sorted(level)
    return found
