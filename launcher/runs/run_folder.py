"""A run's folder: where things lie, written so that a reader never sees half a file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sgp_core import atomic_files


class RunInProgress(RuntimeError):
    """Another process is running this very run."""


SWEEPS = "sweeps"
"""Folder beside the run folders: a run id is hexadecimal, so no run can be called so."""


@dataclass(frozen=True)
class RunFolder:
    """Paths below ``runs/<run-id>/``."""

    path: Path

    @property
    def spec(self) -> Path:
        """The resolved experiment, its identity and its provenance, as the latest attempt was told."""
        return self.path / "spec.json"

    @property
    def summary(self) -> Path:
        """How the run stands or ended."""
        return self.path / "summary.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def job(self) -> Path:
        """The SLURM job that runs or ran it: ``job_id``, ``folder`` of its logs, ``attempt`` it began with."""
        return self.path / "job.json"

    @property
    def cancel(self) -> Path:
        """Somebody wishes the run to end: whoever watches the workers acts on it and removes it."""
        return self.path / "cancel"

    def rank(self, rank: int) -> Path:
        """What worker ``rank`` says of itself."""
        return self.path / f"rank-{rank}.json"

    def attempt(self, number: int) -> Path:
        """Logs of one attempt, submitit's files among them."""
        return self.path / "logs" / f"attempt-{number}"

    def progress(self, attempt: int) -> Path:
        """Rows of metrics as rank 0 made them in one attempt, with totals: what the progress display reads."""
        return self.attempt(attempt) / "progress.jsonl"

    def log(self, attempt: int, rank: int) -> Path | None:
        """Return the log of one worker, None if there is none (yet).

        A SLURM job has its logs where it was submitted from, and goes on in the same ones when it is requeued.
        """
        job = read_json(self.job) or {}
        if job.get("job_id") and attempt >= job.get("attempt", 1):
            log = Path(job["folder"]) / f"{job['job_id']}_{rank}_log.out"
            return log if log.exists() else None
        return next(iter(sorted(self.attempt(attempt).glob(f"*_{rank}_log.out"))), None)

    def status(self) -> str | None:
        """Return the run's status, None if it never started."""
        return (read_json(self.summary) or {}).get("status")

    def next_attempt(self) -> int:
        """Return the number of an attempt that has no folder yet, from 1."""
        numbers = [int(path.name.removeprefix("attempt-")) for path in self.path.glob("logs/attempt-*")]
        return max(numbers, default=0) + 1

    def in_use(self) -> bool:
        """Whether a process on this machine (or file system) holds the run."""
        try:
            with self.lock():
                return False
        except RunInProgress:
            return True

    @contextlib.contextmanager
    def lock(self, patience_s: float = 0.0) -> Iterator[None]:
        """Hold the run for this process; the system lets go of it when the process ends, however it ends.

        A file system that has no locks is trusted to be used with care.

        Raises:
            RunInProgress: another process holds it, for longer than ``patience_s``.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "a+", encoding="utf-8") as file:
            end = time.monotonic() + patience_s
            while not _locked(file):
                if time.monotonic() > end:
                    file.seek(0)
                    holder = file.read().strip() or "another process"
                    raise RunInProgress(f"{self.path} is being run by {holder}")
                time.sleep(0.2)
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` so that readers see the old file or the new one, never a part."""
    atomic_files.write_json(path, content)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what a JSON file holds, None if it is absent or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
