"""What can be known of runs and sweeps from their folders, whatever state those are in."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from launcher import processes, scheduler
from launcher.processes import Process
from launcher.run_folder import SWEEPS, RunFolder, read_json
from launcher.verdict import Report, first_failure, reports, with_log
from sgp_core.errors import ConfigurationError, did_you_mean

STATES = ("queued", "running", "completed", "failed", "preempted", "cancelled", "lost", "damaged")
"""``lost``: its files say that it is queued or running, but nobody is. ``damaged``: its files cannot be read."""

LIVE = ("queued", "running")
_Known = tuple[RunFolder, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]
"""A run's folder, and what its spec, its summary and its note of a job say."""
_RUN_ID = re.compile(r"[0-9a-f]{10}")


@dataclass(frozen=True)
class Run:
    """One run, as its folder and SLURM tell it."""

    folder: RunFolder
    spec: Mapping[str, Any]
    summary: Mapping[str, Any]
    job: Mapping[str, Any]
    state: str
    note: str | None = None
    """What to know about ``state``: why it waits, or why it could not be verified."""
    queued: scheduler.QueuedJob | None = field(default=None, compare=False)
    """What SLURM says of its job."""

    @property
    def run_id(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.summary.get("name") or self.spec.get("name") or self.run_id)

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The experiment's settings."""
        return _mapping(self.spec.get("experiment"))

    @property
    def cluster(self) -> str:
        """Where its latest attempt was sent."""
        return "slurm" if self.job else str(_mapping(self.spec.get("cluster")).get("name") or "?")

    @property
    def world_size(self) -> int:
        """Number of workers, 0 if unknown."""
        given = self.experiment.get("world_size")
        return given if isinstance(given, int) else 0

    @property
    def sweep(self) -> str | None:
        """The sweep its latest attempt was started in."""
        given = self.spec.get("sweep")
        return given if isinstance(given, str) else None

    @cached_property
    def attempt(self) -> int:
        """Number of the latest attempt; 0 before the first."""
        return max(self.folder.next_attempt() - 1, 0)

    @cached_property
    def workers(self) -> dict[int, Report]:
        """What the workers of the latest attempt say of themselves."""
        return {
            rank: report
            for rank, report in reports(self.folder, self.world_size, self.attempt).items()
            if isinstance(report.get("status"), str) and isinstance(report.get("time"), int | float)
        }

    @property
    def error(self) -> Mapping[str, Any] | None:
        """What went wrong: the culprit's ``rank``, ``type``, ``message``, ``traceback`` and ``log``."""
        told = self.summary.get("error")
        if self.state not in ("failed", "lost") or not self.workers:
            return told if isinstance(told, Mapping) else None
        failed = any(report["status"] == "failed" for report in self.workers.values())
        if not failed and self.state == "lost":
            return None
        silent = [rank for rank, report in self.workers.items() if report["status"] in ("starting", "training")]
        known = {rank: report for rank, report in self.workers.items() if isinstance(report.get("error", {}), dict)}
        return with_log(first_failure(known, silent, self.world_size), self.folder, self.attempt)

    @property
    def last_sign(self) -> float | None:
        """When its files last changed, in seconds since the epoch."""
        newest = None
        for path in (self.folder.metrics, self.folder.summary, self.folder.rank(0), self.folder.spec):
            try:
                newest = max(newest or 0.0, path.stat().st_mtime)
            except OSError:
                continue
        return newest

    @property
    def created(self) -> float:
        """When its folder was made or last written to: for sorting."""
        return self.last_sign or 0.0

    @cached_property
    def last_rows(self) -> dict[str, Mapping[str, Any]]:
        """The latest row of each split."""
        return {str(row.get("split")): row for row in _last_rows(self.folder.metrics)}

    @property
    def step(self) -> int:
        """Steps completed."""
        steps = [self.summary.get("steps"), *(row.get("step") for row in self.last_rows.values())]
        return max((step for step in steps if isinstance(step, int)), default=0)

    @cached_property
    def total_steps(self) -> int | None:
        """Steps there are to be, once the workers know."""
        rows = _last_rows(self.folder.progress(self.attempt)) if self.attempt else []
        totals = [row.get("total_steps") for row in rows]
        known = next((total for total in totals if isinstance(total, int)), None)
        return known or (self.step if self.state == "completed" else None)


@dataclass(frozen=True)
class Sweep:
    """Runs that one command asked for."""

    sweep_id: str
    record: Mapping[str, Any]
    path: Path

    @property
    def run_ids(self) -> list[str]:
        """Its runs, in the order they were asked for."""
        points = self.record.get("points")
        given = [_mapping(point).get("run_id") for point in points] if isinstance(points, list) else []
        return [run_id for run_id in given if isinstance(run_id, str) and _RUN_ID.fullmatch(run_id)]


def all_runs(runs_dir: Path) -> list[Run]:
    """Return every run below ``runs_dir``."""
    try:
        names = sorted(entry.name for entry in os.scandir(runs_dir) if entry.is_dir())
    except OSError:
        return []
    return read_runs(runs_dir, [name for name in names if _RUN_ID.fullmatch(name)])


def read_runs(runs_dir: Path, run_ids: Iterable[str]) -> list[Run]:
    """Return these runs, in this order; one without a folder counts as damaged. SLURM is asked at most once."""
    queue = _Queue()
    return [_read(RunFolder(runs_dir / run_id), queue) for run_id in run_ids]


def all_sweeps(runs_dir: Path) -> list[Sweep]:
    """Return every sweep below ``runs_dir``."""
    try:
        entries = sorted((entry for entry in os.scandir(runs_dir / SWEEPS) if entry.is_dir()), key=lambda e: e.name)
    except OSError:
        return []
    return [Sweep(entry.name, read_json(Path(entry.path) / "sweep.json") or {}, Path(entry.path)) for entry in entries]


def find(target: str, runs_dir: Path) -> Run | Sweep:
    """Return the run or the sweep that ``target`` means: a unique prefix of an id, a run's name, or its folder.

    Raises:
        ConfigurationError: nothing or more than one thing is meant; the message names candidates.
    """
    given = target.rstrip("/")
    if "/" in given:
        path = Path(given)
        runs_dir, given = (path.parent.parent if path.parent.name == SWEEPS else path.parent), path.name
    try:
        ids = [entry.name for entry in os.scandir(runs_dir) if entry.is_dir() and _RUN_ID.fullmatch(entry.name)]
    except OSError:
        raise ConfigurationError(f"{runs_dir}: there are no runs; --runs-dir says where to look") from None
    sweeps = {sweep.sweep_id: sweep for sweep in all_sweeps(runs_dir)}
    meant = sorted(name for name in [*ids, *sweeps] if given and name.startswith(given))
    if given in meant:
        meant = [given]
    if not meant:
        names = {run_id: str((read_json(RunFolder(runs_dir / run_id).spec) or {}).get("name")) for run_id in ids}
        meant = sorted(run_id for run_id, name in names.items() if name == given)
        if not meant:
            hint = did_you_mean(given, sorted({*ids, *sweeps, *names.values()})) if len(ids) <= 8 else ""
            raise ConfigurationError(f"no run or sweep '{given}' in {runs_dir}{hint}; sgp runs lists them")
    if len(meant) > 1:
        raise ConfigurationError(f"'{given}' could be {', '.join(meant[:5])}{', ...' if len(meant) > 5 else ''}")
    return sweeps[meant[0]] if meant[0] in sweeps else read_runs(runs_dir, meant)[0]


def find_runs(targets: Sequence[str], runs_dir: Path) -> list[Run]:
    """Return the runs that are meant, those of a sweep in its order, each once.

    Raises:
        ConfigurationError: see :func:`find`.
    """
    found: dict[str, Run] = {}
    for target in targets:
        meant = find(target, runs_dir)
        home = meant.path.parent.parent if isinstance(meant, Sweep) else runs_dir
        for run in read_runs(home, meant.run_ids) if isinstance(meant, Sweep) else [meant]:
            found.setdefault(run.run_id, run)
    return list(found.values())


class _Queue:
    """SLURM's answer, asked for when the first run needs it."""

    def __init__(self) -> None:
        self._asked = False
        self._jobs: dict[str, scheduler.QueuedJob] | None = None

    def jobs(self) -> dict[str, scheduler.QueuedJob] | None:
        if not self._asked:
            self._asked, self._jobs = True, scheduler.queue(patience_s=1.5)
        return self._jobs


def _read(folder: RunFolder, queue: _Queue) -> Run:
    spec, summary, job = (read_json(path) for path in (folder.spec, folder.summary, folder.job))
    status = (summary or {}).get("status")
    if summary is None or status not in STATES:
        if spec is None or summary is not None:
            return Run(folder, spec or {}, summary or {}, job or {}, "damaged", "its files cannot be read")
        status = "queued"  # written down, not begun
    known = (folder, spec or {}, summary or {}, job or {})
    job_id = (job or {}).get("job_id")
    if isinstance(job_id, str) and status not in ("completed", "failed"):
        return _on_slurm(known, str(status), job_id, queue)
    if status in LIVE:
        return _on_a_machine(known, str(status))
    return Run(*known, str(status))


def _on_slurm(known: _Known, status: str, job_id: str, queue: _Queue) -> Run:
    jobs = queue.jobs()
    if jobs is None:
        return Run(*known, status, f"SLURM cannot be asked about job {job_id}" if status in LIVE else None)
    found = jobs.get(job_id)
    if found is None:
        if status in LIVE:
            return Run(*known, "lost", f"job {job_id} has ended and nobody wrote down how")
        return Run(*known, status)
    if found.state == "PENDING":
        return Run(*known, "queued", found.reason, found)
    return Run(*known, "running" if status in LIVE else status, found.state.lower(), found)


def _on_a_machine(known: _Known, status: str) -> Run:
    watcher = _mapping(_mapping(known[1].get("attempt")).get("launcher"))
    pid, started = watcher.get("pid"), watcher.get("started")
    if not isinstance(pid, int) or not isinstance(started, str):
        return Run(*known, "lost", "nobody is known to watch it")
    if watcher.get("host") != socket.gethostname():
        return Run(*known, status, f"started on {watcher.get('host')}, not verified from here")
    if processes.is_alive(Process(pid, started)):
        return Run(*known, status)
    return Run(*known, "lost", "the process that watched it is gone")


def _last_rows(path: Path, size: int = 1 << 15) -> list[Mapping[str, Any]]:
    """Return the rows at the end of a file of metrics."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            lines = file.read().splitlines()
    except OSError:
        return []
    found: list[Mapping[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def age(then: float | None) -> str:
    """Return how long ago something was, in words."""
    if then is None:
        return "-"
    seconds = max(0.0, time.time() - then)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
