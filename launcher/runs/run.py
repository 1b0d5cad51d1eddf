"""One run: what its folder, its processes and SLURM say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from launcher.config.clusters import SimulatorCluster
from launcher.runs.failure import ENDED, Report, find_culprit, last_lines
from launcher.runs.json_fields import mapping, number, text, whole
from launcher.runs.metric_rows import Row, last_rows
from launcher.runs.run_folder import SWEEPS, RunFolder
from launcher.system import slurm_cli
from sgp_core.atomic_files import read_json

_MOST_WORKERS = 1 << 16


@dataclass(frozen=True)
class Run:
    """One run: what its folder, its processes and SLURM say about it."""

    folder: RunFolder
    spec: Mapping[str, Any]
    summary: Mapping[str, Any]
    job: Mapping[str, Any]
    state: str
    note: str | None = None
    """About ``state``: why the run waits, or why the state could not be checked."""
    queued: slurm_cli.QueuedJob | None = field(default=None, compare=False)
    """Its job in SLURM's queue; None if there is none."""
    verified: bool = True
    """Whether ``state`` was checked with processes or SLURM, and not only read from files."""

    @property
    def run_id(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    @property
    def name(self) -> str:
        """Its name for people; the id if it has none."""
        return text(self.summary.get("name")) or text(self.spec.get("name")) or self.run_id

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The experiment's settings."""
        return mapping(self.spec.get("experiment"))

    @property
    def cluster(self) -> str:
        """The ``cluster`` of its latest attempt: ``inline``, ``local``, ``simulator`` or ``slurm``."""
        return "slurm" if self.job else text(mapping(self.spec.get("cluster")).get("name")) or "?"

    @property
    def job_id(self) -> str | None:
        """The SLURM job of its latest attempt."""
        return text(self.job.get("job_id"))

    @property
    def world_size(self) -> int:
        """Number of workers, 0 if unknown."""
        given = whole(self.experiment.get("world_size")) or 0
        return given if given <= _MOST_WORKERS else 0

    @property
    def processes(self) -> int:
        """Number of processes that train, 0 if unknown: one where workers are virtual."""
        return min(self.world_size, 1) if self.cluster == SimulatorCluster.name else self.world_size

    @property
    def sweep(self) -> str | None:
        """The sweep its latest attempt was started in."""
        return text(self.spec.get("sweep"))

    @property
    def point(self) -> str:
        """The settings that tell it from the other runs of its sweep; empty outside of sweeps."""
        return text(self.spec.get("point")) or ""

    # -- attempts and workers -------------------------------------------------------------------------------------
    @cached_property
    def attempts(self) -> list[int]:
        """Numbers of the attempts that have a folder, in order."""
        return self.folder.attempts()

    @property
    def attempt(self) -> int:
        """Number of the latest attempt; 0 before the first."""
        return self.attempts[-1] if self.attempts else 0

    @cached_property
    def workers(self) -> dict[int, Report]:
        """Reports of the workers of the latest attempt, by rank."""
        found = {}
        for path in self.folder.path.glob("rank-*.json"):
            report = read_json(path) or {}
            rank, error = whole(report.get("rank")), report.get("error")
            usable = text(report.get("status")) and number(report.get("time")) is not None
            if rank is None or not usable or whole(report.get("attempt")) != self.attempt:
                continue
            if report["status"] == "failed" and not isinstance(error, dict):
                report = {**report, "error": {"type": "Unknown", "message": "its report holds no error"}}
            found[rank] = report
        return dict(sorted(found.items()))

    def log(self, rank: int, attempt: int | None = None) -> Path | None:
        """Return the log of a worker, None if there is none (yet).

        A SLURM job that is started again goes on in the same log. Its folder is recorded as an absolute path, which is
        wrong after the runs were copied elsewhere.
        """
        attempt = self.attempt if attempt is None else attempt
        since, folder = whole(self.job.get("attempt")) or 1, text(self.job.get("folder"))
        if self.job_id and attempt >= since:
            beside = self.folder.path.parent / SWEEPS / (self.sweep or "") / "slurm"
            for place in (*([Path(folder)] if folder else []), self.folder.attempt(since), beside):
                path = place / f"{self.job_id}_{rank}_log.out"
                if path.is_file():
                    return path
            return None
        return next(iter(sorted(self.folder.attempt(attempt).glob(f"*_{rank}_log.out"))), None)

    @cached_property
    def error(self) -> Mapping[str, Any] | None:
        """The error that made the run fail: ``rank`` of the worker, ``type``, ``message``, ``traceback`` and ``log``.

        Where the summary does not name it, it is found from the reports of the workers.
        """
        recorded = mapping(self.summary.get("error"))
        if self.state == "completed":
            return None
        if recorded and self.state not in ("running", "lost"):
            return self._with_details(
                {key: recorded.get(key) for key in ("rank", "type", "message", "log", "traceback")}
            )
        if not any(report["status"] == "failed" for report in self.workers.values()):
            return None
        silent = [rank for rank, report in self.workers.items() if report["status"] not in ENDED]
        vanished = silent if self.state == "lost" else []
        return self._with_details(find_culprit(self.workers, vanished, len(self.workers)))

    def _with_details(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """Return an error with the traceback of its worker, or the end of that worker's log."""
        rank = whole(error.get("rank"))
        reported = mapping(self.workers.get(rank, {}).get("error")) if rank is not None else {}
        log = self.log(rank) if rank is not None else None
        same = reported.get("type") == error.get("type")
        traceback = text(error.get("traceback")) or (text(reported.get("traceback")) if same else None)
        return {
            "rank": rank,
            "type": text(error.get("type")) or "Unknown",
            "message": text(error.get("message")) or "",
            "traceback": traceback or (last_lines(log) if log else None) or None,
            "log": str(log) if log else text(error.get("log")),
            "user_mistake": bool(reported.get("user_mistake")) and same,
        }

    # -- times and progress ---------------------------------------------------------------------------------------
    @cached_property
    def last_sign(self) -> float | None:
        """The time at which its files last changed, in seconds since the epoch."""
        paths = (self.folder.metrics, self.folder.summary, self.folder.rank(0), self.folder.spec)
        return max((at for at in map(_modification_time, paths) if at is not None), default=None)

    @cached_property
    def created(self) -> float:
        """The time at which its latest attempt was started, in seconds since the epoch; 0 if that is not known."""
        given = text(mapping(self.spec.get("provenance")).get("time"))
        try:
            return datetime.strptime(given or "", "%Y-%m-%dT%H:%M:%S%z").timestamp()
        except (ValueError, OverflowError):
            return _modification_time(self.folder.spec) or self.last_sign or 0.0

    @cached_property
    def last_rows(self) -> dict[str, Row]:
        """The latest row of each split."""
        return last_rows(self.folder.metrics)

    @cached_property
    def step(self) -> int:
        """Steps completed."""
        recorded = whole(self.summary.get("steps")) or 0
        if self.state == "completed" and recorded:
            return recorded
        return max([recorded, *(whole(row.get("step")) or 0 for row in self.last_rows.values())])

    @cached_property
    def total_steps(self) -> int | None:
        """Steps of the whole run; None if that is not known."""
        if self.state == "completed" and self.step:
            return self.step
        training = mapping(self.experiment.get("training"))
        if limit := whole(training.get("max_steps")):
            return limit
        if self.attempt:
            rows = last_rows(self.folder.progress(self.attempt)).values()
            if known := next((total for row in rows if (total := whole(row.get("total_steps")))), None):
                return known
        epochs = number(training.get("epochs"))
        for row in self.last_rows.values():
            step, epoch = whole(row.get("step")), number(row.get("epoch"))
            if step and epoch and epochs and epoch > 0 and 0 < step / epoch * epochs < 1e15:
                return round(step / epoch * epochs)
        return None


def _modification_time(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
