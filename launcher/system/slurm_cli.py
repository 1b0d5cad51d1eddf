"""Calls of SLURM's commands, each with a time limit: they may be missing, or the controller may not answer."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

_PATIENCE_S = 10.0
_ELEMENT = re.compile(r"(\d+)(?:_(\d+))?$")


class QueuedJob(NamedTuple):
    """A job in SLURM's queue."""

    state: str
    """SLURM's name of it: ``PENDING``, ``RUNNING``, ``COMPLETING``, ..."""
    reason: str
    """Why it waits, or ``None``."""
    nodes: str
    """Where it runs; empty while it waits."""


def queue(patience_s: float = _PATIENCE_S) -> dict[str, QueuedJob] | None:
    """Return the user's waiting and running jobs by id (``123``, in an array ``123_4``); None if SLURM does not answer.

    A job that is missing has ended. Only ``squeue`` is called, which works without accounting.
    """
    answer = _ask(["squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%F|%K|%T|%r|%N"], patience_s)
    if answer is None:
        return None
    jobs = {}
    for line in answer.splitlines():
        facts = line.strip().split("|", 4)
        if len(facts) < 5:  # a message of the site
            continue
        job, element, state, reason, nodes = facts
        jobs[f"{job}_{element}" if element.isdigit() else job] = QueuedJob(state, reason, nodes)
    return jobs


def cancel(job_ids: Sequence[str], patience_s: float = _PATIENCE_S) -> bool:
    """Cancel jobs, or elements of an array (``123_4``), and return whether SLURM accepted the request.

    Raises:
        ValueError: a word that is no job id.
    """
    wrong = [job for job in job_ids if not _ELEMENT.match(job)]
    if wrong:
        raise ValueError(f"not job ids: {', '.join(wrong)}")
    return not job_ids or _ask(["scancel", *job_ids], patience_s) is not None


def count_restarts(job_id: str, patience_s: float = _PATIENCE_S) -> int | None:
    """Return how often SLURM has queued a job again, an element of an array (``123_4``) too; None if it does not say.

    It counts at the moment of the request: in a job that is being requeued the number is already one higher than
    ``SLURM_RESTART_COUNT``.
    """
    answer = _ask(["scontrol", "show", "job", "-o", job_id], patience_s)
    found = re.search(r"\bRestarts=(\d+)", answer or "")
    return int(found[1]) if found else None


def _ask(command: list[str], patience_s: float) -> str | None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=patience_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
