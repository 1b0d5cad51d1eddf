"""When workers ended their steps, from what they noted: how long they paused, and how many batches are in the model."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

Step = tuple[float, int]
"""The time of its end, in seconds since 1970, and its number."""


@dataclass(frozen=True)
class Steps:
    """Those of one worker process, in order."""

    rank: int
    pid: int
    ends: list[Step]

    @property
    def begin(self) -> float:
        """The end of the first step."""
        return self.ends[0][0]

    @property
    def end(self) -> float:
        """The end of the last step."""
        return self.ends[-1][0]


def read_steps(folder: Path) -> list[Steps]:
    """Return the steps of every process that noted any in ``folder``; half a line at the end is left out."""
    found = []
    for path in sorted(folder.glob("pulse-*.jsonl")):
        _, rank, pid = path.stem.split("-")
        lines = path.read_text().splitlines(keepends=True)
        ends = [(float(at), int(step)) for at, step in (json.loads(line) for line in lines if line.endswith("]\n"))]
        if ends:
            found.append(Steps(int(rank), int(pid), ends))
    return found


def longest_pause(steps: Steps, begin: float, end: float) -> float:
    """Return the longest time between two steps of a process between two moments, 0 if it took no two steps then."""
    times = [at for at, _ in steps.ends if begin <= at <= end]
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


def usual_step(steps: Steps) -> float:
    """Return the median time from step to step, in seconds."""
    gaps = sorted(later[0] - earlier[0] for earlier, later in zip(steps.ends, steps.ends[1:], strict=False))
    return gaps[len(gaps) // 2] if gaps else 0.0


def kept_batches(found: list[Steps], begin: float, end: float, died: set[int]) -> int:
    """Return how many batches that elastic workers computed between two moments are in the model of the survivors.

    Of each process that died the last one is not counted: its update had not left yet.
    """
    total = 0
    for steps in found:
        mine = sum(begin < at <= end for at, _ in steps.ends)
        total += mine - (steps.pid in died and mine > 0)
    return total


def restarted_batches(found: list[Steps], begin: float, end: float, workers: int) -> int:
    """Return how many batches computed between two moments are in the model of a run that is restarted as a whole.

    That is how far the model came: steps before ``end`` that a restart took back do not count.
    """

    def reached(moment: float) -> int:
        last = max(((at, step) for steps in found for at, step in steps.ends if at <= moment), default=(0.0, 0))
        return last[1]

    return workers * (reached(end) - reached(begin))
