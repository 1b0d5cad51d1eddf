"""The state of a run, checked with its launcher's process or with SLURM, since files alone may be out of date."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.runs.json_fields import mapping, number, text, whole
from launcher.runs.run_folder import RunFolder
from launcher.system import processes, slurm_cli
from launcher.system.processes import Process
from sgp_core.atomic_files import read_json

STATES = ("queued", "running", "completed", "failed", "preempted", "cancelled", "lost", "damaged")
"""``lost``: its files say queued or running, but its process or job is gone. ``damaged``: they cannot be read."""

LIVE = ("queued", "running")
WRITTEN = STATES[:6]
"""The states that ``summary.json`` may hold."""

_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")
"""SLURM's states of a job that waits to run, or to run again."""

_SUBMITTING_S = 300.0
"""The time after which a job without a number counts as never submitted."""


@dataclass(frozen=True)
class Files:
    """The files of a run's folder that decide its state."""

    folder: RunFolder
    spec: Mapping[str, Any]
    summary: Mapping[str, Any]
    job: Mapping[str, Any]

    @property
    def status(self) -> str | None:
        """The status in ``summary.json``, None if there is none."""
        status = self.summary.get("status")
        return status if status in WRITTEN else None


def read_files(folder: RunFolder) -> Files:
    """Read a run's folder."""
    return Files(folder, *(read_json(path) or {} for path in (folder.spec, folder.summary, folder.job)))


@dataclass(frozen=True)
class Standing:
    """The state of a run.

    Attributes:
        note: why the run waits, or why the state could not be checked.
        queued: its job in SLURM's queue.
        verified: whether the state was checked, and not only read from files.
    """

    state: str
    note: str | None = None
    queued: slurm_cli.QueuedJob | None = None
    verified: bool = True


class Observer:
    """Finds the states of runs. Asks SLURM when the first run needs it, and again when its answer is too old."""

    def __init__(self, patience_s: float = 1.5, max_age_s: float = float("inf")) -> None:
        """Prepare.

        Args:
            patience_s: how long SLURM may take to answer.
            max_age_s: how old its answer may become.
        """
        self._patience_s, self._max_age_s = patience_s, max_age_s
        self._asked: float | None = None
        self._jobs: dict[str, slurm_cli.QueuedJob] | None = None

    def jobs(self) -> dict[str, slurm_cli.QueuedJob] | None:
        """Return the user's jobs by id; None if SLURM does not answer."""
        if self._asked is None or time.monotonic() - self._asked > self._max_age_s:
            try:
                self._jobs = slurm_cli.queue(self._patience_s)
            except (ValueError, LookupError):  # an answer that makes no sense; or a user without a name
                self._jobs = None
            self._asked = time.monotonic()
        return self._jobs

    def standing(self, files: Files) -> Standing:
        """Return the state of a run."""
        status = files.status
        if not files.spec and not files.summary:
            return Standing("damaged", "neither its spec.json nor its summary.json can be read")
        if status in ("completed", "failed"):
            return Standing(status)
        if text(files.job.get("job_id")):
            return self._with_slurm(files, status)
        if status in ("preempted", "cancelled"):
            return Standing(status)
        if files.job or mapping(files.spec.get("cluster")).get("name") == "slurm":
            return self._without_job_number(files, status)
        return self._on_a_machine(files, status)

    def _with_slurm(self, files: Files, status: str | None) -> Standing:
        job = str(files.job["job_id"])
        ended = status in ("preempted", "cancelled")
        jobs = self.jobs()
        if jobs is None:
            note = f"SLURM does not answer, so job {job} was not checked"
            return Standing(status or "running", note, verified=False)
        found = jobs.get(job)
        if found is not None and found.state in _WAITING:
            return Standing("queued", text(found.reason), found)
        if found is not None:  # one that was cancelled and queued again runs before its files say so
            ending = status == "cancelled" and found.state == "COMPLETING"
            return Standing("cancelled" if ending else "running", None, found)
        if ended:
            return Standing(str(status))
        if not _is_ours(files.folder):
            return Standing(status or "running", f"job {job} is another user's and was not checked", verified=False)
        return _lost_or_ended(files, f"SLURM has no job {job} any more, and its end is not recorded")

    def _without_job_number(self, files: Files, status: str | None) -> Standing:
        """Return the state of a run whose job has no number: it is being submitted right now, or never was."""
        since = number(files.job.get("submitted"))
        if since is not None and time.time() - since < _SUBMITTING_S:
            return Standing(status or "queued", "it is being submitted")
        if status == "running":
            return Standing(status, "the number of its job is not known, so it was not checked", verified=False)
        return _lost_or_ended(files, "it was to be submitted, but SLURM never had it")

    def _on_a_machine(self, files: Files, status: str | None) -> Standing:
        launcher = mapping(mapping(files.spec.get("attempt")).get("launcher"))
        pid, host = whole(launcher.get("pid")), text(launcher.get("host"))
        if not files.spec:
            return Standing(status or "running", "spec.json cannot be read, so it was not checked", verified=False)
        if pid is None or host is None:
            return _lost_or_ended(files, "no launcher is recorded that watches it")
        if host != socket.gethostname():
            return Standing(status or "running", f"it is watched on {host}, so it was not checked", verified=False)
        if processes.is_alive(Process(pid, text(launcher.get("started")) or "")):
            return Standing(status or "running")
        return _lost_or_ended(files, f"process {pid}, which watched it, is gone")


def _lost_or_ended(files: Files, note: str) -> Standing:
    """Return the state of a run that has no process: lost, unless its end was recorded since its files were read."""
    status = read_files(files.folder).status
    return Standing("lost", note) if status is None or status in LIVE else Standing(status)


def _is_ours(folder: RunFolder) -> bool:
    """Whether its job is one of the user's, which are all that SLURM was asked for."""
    try:
        return folder.path.stat().st_uid == os.getuid()
    except OSError:
        return False
