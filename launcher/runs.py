"""What can be known of runs and sweeps from their folders, whatever state those are in."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from launcher import scheduler
from launcher.liveness import LIVE, STATES, Observer, read_files
from launcher.measured import Row, last_rows
from launcher.run_folder import SWEEPS, RunFolder, read_json
from launcher.untrusted import items, mapping, number, text, whole
from launcher.verdict import ENDED, Report, first_failure, last_lines
from sgp_core.errors import ConfigurationError, did_you_mean

__all__ = ["LIVE", "STATES", "Run", "Sweep", "age", "all_runs", "all_sweeps", "find", "find_runs", "read_runs"]

_RUN_ID = re.compile(r"[0-9a-f]{10}")
_SWEEP_ID = re.compile(r"[0-9a-f]{8}")
_MOST_WORKERS = 1 << 16
_MOST_NAMED = 5
"""How many candidates a message names."""


@dataclass(frozen=True)
class Run:
    """One run, as its folder, its processes and SLURM tell it."""

    folder: RunFolder
    spec: Mapping[str, Any]
    summary: Mapping[str, Any]
    job: Mapping[str, Any]
    state: str
    note: str | None = None
    """What to know about ``state``: why it waits, or why it could not be verified."""
    queued: scheduler.QueuedJob | None = field(default=None, compare=False)
    """What SLURM says of its job."""
    verified: bool = True
    """Whether ``state`` is more than what its files say."""

    @property
    def run_id(self) -> str:
        """The name of its folder."""
        return self.folder.path.name

    @property
    def name(self) -> str:
        """What people call it."""
        return text(self.summary.get("name")) or text(self.spec.get("name")) or self.run_id

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The experiment's settings."""
        return mapping(self.spec.get("experiment"))

    @property
    def cluster(self) -> str:
        """Where its latest attempt was sent."""
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
    def sweep(self) -> str | None:
        """The sweep its latest attempt was started in."""
        return text(self.spec.get("sweep"))

    # -- attempts and workers -------------------------------------------------------------------------------------
    @cached_property
    def attempts(self) -> list[int]:
        """Numbers of the attempts that have left something, in order."""
        try:
            names = os.listdir(self.folder.path / "logs")
        except OSError:
            return []
        return sorted(int(name[8:]) for name in names if re.fullmatch(r"attempt-\d{1,9}", name))

    @property
    def attempt(self) -> int:
        """Number of the latest attempt; 0 before the first."""
        return self.attempts[-1] if self.attempts else 0

    @cached_property
    def workers(self) -> dict[int, Report]:
        """What the workers of the latest attempt say of themselves, by rank."""
        found = {}
        for path in self.folder.path.glob("rank-*.json"):
            report = read_json(path) or {}
            rank, error = whole(report.get("rank")), report.get("error")
            usable = text(report.get("status")) and number(report.get("time")) is not None
            if rank is None or not usable or whole(report.get("attempt")) != self.attempt:
                continue
            if report["status"] == "failed" and not isinstance(error, dict):
                report = {**report, "error": {"type": "Unknown", "message": "it did not say why"}}
            found[rank] = report
        return dict(sorted(found.items()))

    def log(self, rank: int, attempt: int | None = None) -> Path | None:
        """Return the log of a worker, None if there is none (yet).

        A SLURM job keeps its log when it is started again. Its folder is noted as an absolute path, which no longer
        holds when runs have been copied elsewhere.
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
        """What went wrong: the culprit's ``rank``, ``type``, ``message``, ``traceback`` and ``log``.

        Where nobody has written the verdict yet, or never will, it is judged by what the workers said.
        """
        told = mapping(self.summary.get("error"))
        if self.state == "completed":
            return None
        if told and self.state not in ("running", "lost"):
            return self._explained({key: told.get(key) for key in ("rank", "type", "message", "log", "traceback")})
        if not any(report["status"] == "failed" for report in self.workers.values()):
            return None
        silent = [rank for rank, report in self.workers.items() if report["status"] not in ENDED]
        vanished = silent if self.state == "lost" else []
        return self._explained(first_failure(self.workers, vanished, len(self.workers)))

    def _explained(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """Return an error with the traceback, or the end of the log, of the worker that had it."""
        rank = whole(error.get("rank"))
        said = mapping(self.workers.get(rank, {}).get("error")) if rank is not None else {}
        log = self.log(rank) if rank is not None else None
        same = said.get("type") == error.get("type")
        traceback = text(error.get("traceback")) or (text(said.get("traceback")) if same else None)
        return {
            "rank": rank,
            "type": text(error.get("type")) or "Unknown",
            "message": text(error.get("message")) or "",
            "traceback": traceback or (last_lines(log) if log else None) or None,
            "log": str(log) if log else text(error.get("log")),
            "user_mistake": bool(said.get("user_mistake")) and same,
        }

    # -- times and progress ---------------------------------------------------------------------------------------
    @cached_property
    def last_sign(self) -> float | None:
        """When its files last changed, in seconds since the epoch."""
        paths = (self.folder.metrics, self.folder.summary, self.folder.rank(0), self.folder.spec)
        return max((at for at in map(_changed, paths) if at is not None), default=None)

    @cached_property
    def created(self) -> float:
        """When its latest attempt was asked for, in seconds since the epoch; 0 if that is not known."""
        given = text(mapping(self.spec.get("provenance")).get("time"))
        try:
            return datetime.strptime(given or "", "%Y-%m-%dT%H:%M:%S%z").timestamp()
        except (ValueError, OverflowError):
            return _changed(self.folder.spec) or self.last_sign or 0.0

    @cached_property
    def last_rows(self) -> dict[str, Row]:
        """The latest row of each split."""
        return last_rows(self.folder.metrics)

    @cached_property
    def step(self) -> int:
        """Steps completed."""
        told = whole(self.summary.get("steps")) or 0
        if self.state == "completed" and told:
            return told
        return max([told, *(whole(row.get("step")) or 0 for row in self.last_rows.values())])

    @cached_property
    def total_steps(self) -> int | None:
        """Steps there are to be, as far as that is known."""
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


@dataclass(frozen=True)
class Sweep:
    """Runs that one command asked for."""

    sweep_id: str
    record: Mapping[str, Any]
    path: Path

    @property
    def run_ids(self) -> list[str]:
        """Its runs, in the order they were asked for."""
        given = [mapping(point).get("run_id") for point in items(self.record.get("points"))]
        return list(dict.fromkeys(run_id for run_id in given if isinstance(run_id, str) and _RUN_ID.fullmatch(run_id)))

    @property
    def runs_dir(self) -> Path:
        """Where its runs are."""
        return self.path.parent.parent

    @property
    def created(self) -> str | None:
        """When it was asked for first."""
        return text(self.record.get("created"))


# -- reading ----------------------------------------------------------------------------------------------------------
def all_runs(runs_dir: Path, observer: Observer | None = None) -> list[Run]:
    """Return every run below ``runs_dir``, the newest first."""
    return sorted(read_runs(runs_dir, run_ids(runs_dir), observer), key=lambda run: (-run.created, run.run_id))


def read_runs(runs_dir: Path, run_ids: Iterable[str], observer: Observer | None = None) -> list[Run]:
    """Return these runs, in this order; one without a folder counts as damaged. SLURM is asked at most once."""
    observer = observer or Observer()
    return [_read(RunFolder(runs_dir / run_id), observer) for run_id in run_ids]


def again(run: Run, observer: Observer) -> Run:
    """Return a run as it is now."""
    return _read(run.folder, observer)


def run_ids(runs_dir: Path) -> list[str]:
    """Return the ids of all runs below ``runs_dir``, in order; none if there is no such folder."""
    return _folders(runs_dir, _RUN_ID)


def all_sweeps(runs_dir: Path) -> list[Sweep]:
    """Return every sweep below ``runs_dir``."""
    home = runs_dir / SWEEPS
    return [_sweep(home / name) for name in _folders(home, _SWEEP_ID)]


def members(sweep: Sweep, observer: Observer | None = None) -> list[Run]:
    """Return the runs of a sweep, in its order; those that have not begun are ``queued``, or else ``damaged``."""
    points = {str(mapping(point).get("run_id")): mapping(point) for point in items(sweep.record.get("points"))}
    found = []
    for run in read_runs(sweep.runs_dir, sweep.run_ids, observer):
        if run.folder.path.exists():
            found.append(run)
            continue
        name = text(points[run.run_id].get("name"))
        spec = {"name": name} if name else {}
        found.append(dataclasses.replace(run, spec=spec, note="its folder does not exist: never started, or removed"))
    return found


# -- finding ----------------------------------------------------------------------------------------------------------
def find(target: str, runs_dir: Path, observer: Observer | None = None) -> Run | Sweep:
    """Return the run or the sweep that ``target`` means: a unique prefix of an id or of a run's name, or its folder.

    Raises:
        ConfigurationError: nothing or more than one thing is meant; the message names candidates.
    """
    given = target.rstrip("/")
    if "/" in given:
        path = Path(given).absolute()
        is_sweep = path.parent.name == SWEEPS
        runs_dir, given = (path.parent.parent if is_sweep else path.parent), path.name
        if not (_SWEEP_ID if is_sweep else _RUN_ID).fullmatch(given) or not path.is_dir():
            raise ConfigurationError(f"{target} is no folder of a run or a sweep")
        return _sweep(path) if is_sweep else read_runs(runs_dir, [given], observer)[0]
    ids, sweeps = run_ids(runs_dir), _folders(runs_dir / SWEEPS, _SWEEP_ID)
    if not ids and not sweeps:
        raise ConfigurationError(f"there are no runs in {runs_dir}; --runs-dir says where to look")
    meant = [name for name in [*ids, *sweeps] if given and name.startswith(given)]
    meant = [given] if given in meant else meant or _named(given, runs_dir, ids, sweeps)
    if len(meant) > 1:
        more = ", ..." if len(meant) > _MOST_NAMED else ""
        raise ConfigurationError(f"'{target}' could be {', '.join(meant[:_MOST_NAMED])}{more}: give more of the id")
    return _sweep(runs_dir / SWEEPS / meant[0]) if meant[0] in sweeps else read_runs(runs_dir, meant, observer)[0]


def find_run(target: str, runs_dir: Path, observer: Observer | None = None) -> Run:
    """Return the run that ``target`` means.

    Raises:
        ConfigurationError: see :func:`find`; or it is a sweep.
    """
    found = find(target, runs_dir, observer)
    if isinstance(found, Sweep):
        some = ", ".join(found.run_ids[:_MOST_NAMED]) or "none"
        raise ConfigurationError(f"{target} is a sweep; name one of its runs: {some}")
    return found


def find_sweep(target: str, runs_dir: Path) -> Sweep:
    """Return the sweep that ``target`` means.

    Raises:
        ConfigurationError: see :func:`find`; or it is a run.
    """
    found = find(target, runs_dir, _NOBODY)
    if isinstance(found, Run):
        known = [sweep.sweep_id for sweep in all_sweeps(runs_dir) if found.run_id in sweep.run_ids]
        where = f"; it belongs to sweep {', '.join(known)}" if known else ""
        raise ConfigurationError(f"{target} is a run, not a sweep{where}")
    return found


def find_runs(targets: Sequence[str], runs_dir: Path, observer: Observer | None = None) -> list[Run]:
    """Return the runs that are meant, those of a sweep in its order, each once.

    Raises:
        ConfigurationError: see :func:`find`.
    """
    observer = observer or Observer()
    found: dict[Path, Run] = {}
    for target in targets:
        meant = find(target, runs_dir, observer)
        for run in members(meant, observer) if isinstance(meant, Sweep) else [meant]:
            found.setdefault(run.folder.path.absolute(), run)
    return list(found.values())


def age(then: float | None) -> str:
    """Return how long ago something was, in words."""
    if then is None:
        return "-"
    seconds = max(0.0, time.time() - then)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


# -- parts ------------------------------------------------------------------------------------------------------------
class _Nobody(Observer):
    """Takes SLURM for away, where it does not matter how runs stand."""

    def jobs(self) -> None:
        return None


_NOBODY = _Nobody()


def _read(folder: RunFolder, observer: Observer) -> Run:
    files = read_files(folder)
    standing = observer.standing(files)
    if standing.state != files.status:  # its end may have been written down in the meantime
        files = read_files(folder)
    return Run(
        folder,
        files.spec,
        files.summary,
        files.job,
        standing.state,
        standing.note,
        standing.queued,
        standing.verified,
    )


def _sweep(path: Path) -> Sweep:
    return Sweep(path.name, read_json(path / "sweep.json") or {}, path)


def _named(given: str, runs_dir: Path, ids: Sequence[str], sweeps: Sequence[str]) -> list[str]:
    """Return the runs that are called so, else those whose names begin so."""
    names = {run_id: _name(RunFolder(runs_dir / run_id)) for run_id in ids}
    for fits in (str.__eq__, str.startswith):
        if meant := [run_id for run_id, name in names.items() if given and name and fits(name, given)]:
            return meant
    known = sorted({*ids, *sweeps, *filter(None, names.values())})
    hint = did_you_mean(given, known)
    if not hint.endswith("?") and len(known) > 2 * _MOST_NAMED:
        hint = "; sgp runs lists what there is"
    raise ConfigurationError(f"no run or sweep '{given}' in {runs_dir}{hint}")


def _name(folder: RunFolder) -> str | None:
    return text((read_json(folder.spec) or {}).get("name")) or text((read_json(folder.summary) or {}).get("name"))


def _folders(home: Path, kind: re.Pattern[str]) -> list[str]:
    try:
        with os.scandir(home) as entries:
            return sorted(entry.name for entry in entries if kind.fullmatch(entry.name) and entry.is_dir())
    except OSError:
        return []


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
