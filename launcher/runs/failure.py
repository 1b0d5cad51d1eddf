"""Judging an attempt by what its workers said: all of them count, and one is to blame.

A worker that dies takes the others with it: they see closed connections and time-outs. The culprit is the one whose
failure was not the consequence of another's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from launcher.runs.run_folder import RunFolder, read_json

Report = dict[str, Any]
"""Content of ``rank-<k>.json``."""

WELL = ("completed", "preempted")
ENDED = (*WELL, "failed", "cancelled")

_VICTIM = re.compile(
    r"(closed|reset) by peer|connection (closed|reset|refused|aborted)|broken pipe|timed ?out|gloo/|nccl"
    r"|lost (its exchange|rank \d|the others of its node)",  # as sgp_core says it
    re.IGNORECASE,
)


def reports(folder: RunFolder, world_size: int, attempt: int) -> dict[int, Report]:
    """Return what each worker of this attempt says of itself."""
    found = {}
    for rank in range(world_size):
        report = read_json(folder.rank(rank))
        if report is not None and report.get("attempt") == attempt:
            found[rank] = report
    return found


def first_failure(reports: Mapping[int, Report], vanished: Collection[int], world_size: int) -> dict[str, Any]:
    """Return ``rank``, ``type``, ``message`` and ``traceback`` of the worker that failed first.

    Args:
        reports: of the workers that have spoken.
        vanished: workers whose process is gone.
        world_size: number of workers there should be.
    """
    spoken = sorted((r for r in reports.values() if r.get("status") == "failed"), key=lambda report: report["time"])
    silent = [rank for rank in vanished if reports.get(rank, {}).get("status") not in ENDED]
    culprits = [report for report in spoken if not is_victim(report["error"])]
    if culprits or (spoken and not silent):
        report = (culprits or spoken)[0]
        return {"rank": report["rank"], **report["error"]}
    rank = min(silent or [rank for rank in range(world_size) if rank not in reports] or [0])
    message = "gone without a word: killed (kill -9, out of memory?) or crashed"
    return {"rank": rank, "type": "WorkerDied", "message": message, "traceback": None}


def with_log(error: dict[str, Any], folder: RunFolder, attempt: int) -> dict[str, Any]:
    """Add where the worker's log is and, if it left no traceback, the last lines of that log."""
    log = folder.log(attempt, error["rank"])
    traceback = error.get("traceback") or (last_lines(log) if log else "")
    return {**error, "log": str(log) if log else None, "traceback": traceback}


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of a log, with a heading; empty if it cannot be read."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(["last lines of its log:", *lines[-count:]]) if lines else ""


def is_victim(error: Mapping[str, Any]) -> bool:
    """Whether an error is what a worker sees when another one has died."""
    return bool(_VICTIM.search(f"{error.get('type')}: {error.get('message')}"))
