"""A run's folder: its files, and its lock. Readers never see half a file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from launcher.runs.json_fields import text, whole
from sgp_core.atomic_files import read_json
from sgp_core.same_folder import SameFolder


class RunInProgress(RuntimeError):
    """Another process holds the lock of a run."""


_ATTEMPT = re.compile(r"attempt-\d{1,9}", re.ASCII)

SWEEPS = "sweeps"
"""Folder beside the run folders. Run ids are hexadecimal, so no run has this name."""


@dataclass(frozen=True)
class RunFolder:
    """Paths below ``runs/<run-id>/``."""

    path: Path

    @property
    def spec(self) -> Path:
        """The plan and provenance of the latest attempt."""
        return self.path / "spec.json"

    @property
    def summary(self) -> Path:
        """The status of the run, and its final and best metrics."""
        return self.path / "summary.json"

    @property
    def metrics(self) -> Path:
        """The metrics, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def job(self) -> Path:
        """The SLURM job of the run: ``job_id``, ``folder`` of its logs, and the first ``attempt`` that it runs."""
        return self.path / "job.json"

    @property
    def cancel(self) -> Path:
        """A file that asks for the run to be cancelled. The process that watches the workers removes it."""
        return self.path / "cancel"

    @functools.cached_property
    def same(self) -> SameFolder:
        """Tells whether this is the folder that it was when this was first asked for: at the start of an attempt."""
        return SameFolder(self.path)

    def rank(self, rank: int) -> Path:
        """The report of worker ``rank``."""
        return self.path / f"rank-{rank}.json"

    def attempt(self, number: int) -> Path:
        """The folder of one attempt's logs and of submitit's files."""
        return self.path / "logs" / f"attempt-{number}"

    def progress(self, attempt: int) -> Path:
        """The rows of metrics of one attempt, with totals, for the progress display."""
        return self.attempt(attempt) / "progress.jsonl"

    def log(self, attempt: int, rank: int) -> Path | None:
        """Return the log of one worker, None if there is none yet.

        The logs of a SLURM job lie where it was submitted; a requeued job appends to the same files.
        """
        job = read_json(self.job) or {}
        job_id, folder = text(job.get("job_id")), text(job.get("folder"))
        if job_id and folder and attempt >= (whole(job.get("attempt")) or 1):
            log = Path(folder) / f"{job_id}_{rank}_log.out"
            return log if log.is_file() else None
        return next(iter(sorted(self.attempt(attempt).glob(f"*_{rank}_log.out"))), None)

    def status(self) -> str | None:
        """Return the run's status, None if it has never started."""
        return text((read_json(self.summary) or {}).get("status"))

    def next_attempt(self) -> int:
        """Return the number of the next attempt, from 1."""
        return max(self.attempts(), default=0) + 1

    def attempts(self) -> list[int]:
        """Return the numbers of the attempts that have a folder, in order."""
        try:
            names = os.listdir(self.path / "logs")
        except OSError:
            return []
        return sorted(int(name[8:]) for name in names if _ATTEMPT.fullmatch(name))

    def in_use(self) -> bool:
        """Whether another process holds the lock, on this machine or through a shared file system."""
        try:
            with self.lock():
                return False
        except RunInProgress:
            return True

    @contextlib.contextmanager
    def lock(self, patience_s: float = 0.0) -> Iterator[None]:
        """Hold the lock of the run inside the ``with`` block.

        It is ``flock`` itself rather than a lock library: the kernel releases it when the process ends, however it
        ends, and nothing is left that would block the next attempt. A file system without locks is used without: a
        lock file would outlive a killed process.

        Raises:
            RunInProgress: another process has held it for ``patience_s`` seconds.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "a+", encoding="utf-8", opener=_open_no_link) as file:
            end = time.monotonic() + patience_s
            while not _try_lock(file):
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


def _open_no_link(path: str, flags: int) -> int:
    """Open a file, but not through a link: where a foreign folder has one, another file would be emptied."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True
