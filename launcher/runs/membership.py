"""Who took part in an attempt of an elastic run, and who died: what its workers and their keepers have written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.runs.failure import ENDED, WORKER_DIED, find_culprit
from launcher.runs.json_fields import mapping, number, text, whole
from launcher.runs.line_tail import LineTail
from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import read_json


@dataclass(frozen=True)
class MembershipFiles:
    """The files of an attempt that tell of its members."""

    attempt: Path

    @property
    def members(self) -> Path:
        """A line for each change that members noticed: ``event`` is ``left``, ``joined`` or ``members``."""
        return self.attempt / "members.jsonl"

    @property
    def given_up(self) -> Path:
        """The error of a worker that could not be replaced: the run ends."""
        return self.attempt / "given-up.json"

    def deaths(self, rank: int) -> Path:
        """A line for each process of a rank that died."""
        return self.attempt / f"deaths-{rank}.jsonl"


def count_replacements(folder: RunFolder) -> int:
    """Return how many replacements joined, in all attempts of a run."""
    files = folder.path.glob("logs/attempt-*/members.jsonl")
    return sum(line.get("event") == "joined" for path in files for line in LineTail(path).objects())


def find_last_culprit(attempt: Path, reports: Mapping[int, Mapping[str, Any]], world_size: int) -> dict[str, Any]:
    """Return the error that ended an elastic attempt: that of the worker that could not be replaced, else the first of
    the deaths after which no worker was left.

    Args:
        reports: of the workers, by rank.
        world_size: number of workers of the run.
    """
    record = MembershipFiles(attempt)
    given_up = read_json(record.given_up) or {}
    if whole(given_up.get("rank")) is not None:
        return dict(given_up)
    last = {rank: lines[-1] for rank in range(world_size) if (lines := list(LineTail(record.deaths(rank)).objects()))}
    said: dict[int, dict[str, Any]] = {rank: dict(report) for rank, report in reports.items()}
    for rank, death in last.items():
        if text(death.get("how")) and said.get(rank, {}).get("status") not in ENDED:
            error = mapping(death.get("error")) or {"type": WORKER_DIED, "message": death["how"], "traceback": None}
            at = number(death.get("time")) or 0.0
            said[rank] = {"rank": rank, "status": "failed", "time": at, "error": {"peer_lost": None, **error}}
    silent = [rank for rank in range(world_size) if said.get(rank, {}).get("status") not in ENDED]
    return find_culprit(said, silent, world_size)
