"""Which worker made an attempt fail, found from what all its workers reported.

A worker that dies takes the others with it: they see closed connections and time-outs, and fail as well. The culprit
is the worker whose failure was not the consequence of another's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import read_file, read_json

Report = dict[str, Any]
"""Content of ``rank-<k>.json``."""

SUCCESSFUL = ("completed", "preempted")
"""Statuses of a worker that completed its work or saved it."""
ENDED = (*SUCCESSFUL, "failed", "cancelled")
"""Statuses of a worker that has ended and reported it."""

WORKER_DIED = "WorkerDied"
"""Error type of a worker that ended without a report."""
NODE_LOST = "NodeLost"
"""Error type of a worker whose machine SLURM has lost."""

_PEER_LOST_IN_0_1 = (
    *("closed by peer", "reset by peer", "broken pipe", "timed out", "timeout", "gloo/", "nccl"),
    *("connection closed", "connection reset", "connection refused", "connection aborted"),
    *("lost its exchange", "lost rank ", "lost the others of its node"),
)
"""What messages of version 0.1 say when a peer is missing; its workers did not record ``peer_lost``."""


def read_reports(folder: RunFolder, world_size: int, attempt: int) -> dict[int, Report]:
    """Return the reports of an attempt by rank; a worker that has not reported yet is left out."""
    found = {}
    for rank in range(world_size):
        report = read_json(folder.rank(rank))
        if report is not None and report.get("attempt") == attempt:
            found[rank] = report
    return found


def find_culprit(reports: Mapping[int, Report], vanished: Collection[int], world_size: int) -> dict[str, Any]:
    """Return ``rank``, ``type``, ``message`` and ``traceback`` of the failure that caused the others.

    That is the first failure that was not the loss of a peer; without one, a worker that vanished, first of all one
    that others have missed; without one, the first failure of all.

    Args:
        reports: by rank; workers without one are left out.
        vanished: ranks whose process has ended.
        world_size: number of workers of the run.
    """
    failures = [report for report in reports.values() if report.get("status") == "failed"]
    failures.sort(key=lambda report: report["time"])
    silent = {rank for rank in vanished if reports.get(rank, {}).get("status") not in ENDED}
    own = [report for report in failures if not has_lost_peer(report["error"])]
    if own or (failures and not silent):
        report = (own or failures)[0]
        return {"rank": report["rank"], **report["error"]}
    missed = {peer for report in failures for peer in (report["error"].get("peer_lost") or {}).get("peers", ())}
    absent = [rank for rank in range(world_size) if rank not in reports]
    rank = min((silent & missed) or silent or absent or [0])
    message = "ended without a report: it was killed (kill -9, out of memory?) or crashed"
    return {"rank": rank, "type": WORKER_DIED, "message": message, "traceback": None}


def has_lost_peer(error: Mapping[str, Any]) -> bool:
    """Whether a worker failed because another one was missing."""
    if "peer_lost" in error:
        return bool(error["peer_lost"])
    text = f"{error.get('type')}: {error.get('message')}".lower()
    return any(words in text for words in _PEER_LOST_IN_0_1)


def add_log(error: dict[str, Any], folder: RunFolder, attempt: int) -> dict[str, Any]:
    """Return the error with the path of the worker's log; without a traceback, with the log's last lines instead."""
    log = folder.log(attempt, error["rank"])
    traceback = error.get("traceback") or (last_lines(log) if log else "")
    return {**error, "log": str(log) if log else None, "traceback": traceback}


def last_lines(log: Path, count: int = 15) -> str:
    """Return the last lines of a log under a heading; empty if it cannot be read."""
    try:
        lines = read_file(log).decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(["last lines of its log:", *lines[-count:]]) if lines else ""
