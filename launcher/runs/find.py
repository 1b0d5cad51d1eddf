"""Finding runs and sweeps in a folder, by id, by name or by path, whatever state they are in."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.runs.json_fields import items, mapping, text
from launcher.runs.liveness import LIVE, STATES, Observer, read_files
from launcher.runs.run import Run
from launcher.runs.run_folder import SWEEPS, RunFolder
from sgp_core.atomic_files import read_json
from sgp_core.errors import ConfigurationError, did_you_mean

__all__ = [
    "LIVE",
    "STATES",
    "Run",
    "Sweep",
    "age",
    "all_runs",
    "all_sweeps",
    "find",
    "find_run",
    "find_runs",
    "find_sweep",
    "members",
    "read_runs",
    "reread",
    "run_ids",
]

_RUN_ID = re.compile(r"[0-9a-f]{10}")
_SWEEP_ID = re.compile(r"[0-9a-f]{8}")
_MOST_NAMED = 5
"""The most candidates that a message names."""


@dataclass(frozen=True)
class Sweep:
    """The runs of one ``sgp-train -m``: ``record`` is the content of ``sweep.json``, ``path`` its folder."""

    sweep_id: str
    record: Mapping[str, Any]
    path: Path

    @property
    def run_ids(self) -> list[str]:
        """The ids of its runs, in the order of the command."""
        given = [mapping(point).get("run_id") for point in items(self.record.get("points"))]
        return list(dict.fromkeys(run_id for run_id in given if isinstance(run_id, str) and _RUN_ID.fullmatch(run_id)))

    @property
    def runs_dir(self) -> Path:
        """The folder that holds its runs."""
        return self.path.parent.parent

    @property
    def created(self) -> str | None:
        """The time at which it was started first."""
        return text(self.record.get("created"))


# -- reading ----------------------------------------------------------------------------------------------------------
def all_runs(runs_dir: Path, observer: Observer | None = None) -> list[Run]:
    """Return every run below ``runs_dir``, the newest first."""
    return sorted(read_runs(runs_dir, run_ids(runs_dir), observer), key=lambda run: (-run.created, run.run_id))


def read_runs(runs_dir: Path, run_ids: Iterable[str], observer: Observer | None = None) -> list[Run]:
    """Return these runs, in this order; a run without a folder counts as damaged. SLURM is asked at most once."""
    observer = observer or Observer()
    return [_read(RunFolder(runs_dir / run_id), observer) for run_id in run_ids]


def reread(run: Run, observer: Observer) -> Run:
    """Return a run as its folder and SLURM describe it now."""
    return _read(run.folder, observer)


def run_ids(runs_dir: Path) -> list[str]:
    """Return the ids of all runs below ``runs_dir``, in order; none if there is no such folder."""
    return _folders(runs_dir, _RUN_ID)


def all_sweeps(runs_dir: Path) -> list[Sweep]:
    """Return every sweep below ``runs_dir``."""
    home = runs_dir / SWEEPS
    return [_sweep(home / name) for name in _folders(home, _SWEEP_ID)]


def members(sweep: Sweep, observer: Observer | None = None) -> list[Run]:
    """Return the runs of a sweep, in its order; a run without a folder is ``damaged``."""
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
    """Return the run or the sweep that ``target`` names: a unique prefix of an id or of a run's name, or a folder.

    Raises:
        ConfigurationError: nothing, or more than one thing, matches; the message names candidates.
    """
    given = target.rstrip("/")
    if "/" in given:
        path = Path(given).absolute()
        is_sweep = path.parent.name == SWEEPS
        runs_dir, given = (path.parent.parent if is_sweep else path.parent), path.name
        if not (_SWEEP_ID if is_sweep else _RUN_ID).fullmatch(given) or not path.is_dir():
            raise ConfigurationError(f"{target} is not the folder of a run or a sweep")
        return _sweep(path) if is_sweep else read_runs(runs_dir, [given], observer)[0]
    ids, sweeps = run_ids(runs_dir), _folders(runs_dir / SWEEPS, _SWEEP_ID)
    if not ids and not sweeps:
        raise ConfigurationError(f"there are no runs in {runs_dir}; --runs-dir says where to look")
    matching = [name for name in [*ids, *sweeps] if given and name.startswith(given)]
    matching = [given] if given in matching else matching or _ids_of_name(given, runs_dir, ids, sweeps)
    if len(matching) > 1:
        more = ", ..." if len(matching) > _MOST_NAMED else ""
        some = ", ".join(matching[:_MOST_NAMED])
        raise ConfigurationError(f"'{target}' could be {some}{more}: give more of the id")
    [name] = matching
    return _sweep(runs_dir / SWEEPS / name) if name in sweeps else read_runs(runs_dir, [name], observer)[0]


def find_run(target: str, runs_dir: Path, observer: Observer | None = None) -> Run:
    """Return the run that ``target`` names.

    Raises:
        ConfigurationError: see :func:`find`; or ``target`` is a sweep.
    """
    found = find(target, runs_dir, observer)
    if isinstance(found, Sweep):
        some = ", ".join(found.run_ids[:_MOST_NAMED]) or "none"
        raise ConfigurationError(f"{target} is a sweep; name one of its runs: {some}")
    return found


def find_sweep(target: str, runs_dir: Path) -> Sweep:
    """Return the sweep that ``target`` names.

    Raises:
        ConfigurationError: see :func:`find`; or ``target`` is a run.
    """
    found = find(target, runs_dir, _WITHOUT_SLURM)
    if isinstance(found, Run):
        known = [sweep.sweep_id for sweep in all_sweeps(runs_dir) if found.run_id in sweep.run_ids]
        where = f"; it belongs to sweep {', '.join(known)}" if known else ""
        raise ConfigurationError(f"{target} is a run, not a sweep{where}")
    return found


def find_runs(targets: Sequence[str], runs_dir: Path, observer: Observer | None = None) -> list[Run]:
    """Return the runs that the targets name, each once, those of a sweep in its order.

    Raises:
        ConfigurationError: see :func:`find`.
    """
    observer = observer or Observer()
    found: dict[Path, Run] = {}
    for target in targets:
        one = find(target, runs_dir, observer)
        for run in members(one, observer) if isinstance(one, Sweep) else [one]:
            found.setdefault(run.folder.path.absolute(), run)
    return list(found.values())


def age(then: float | None) -> str:
    """Return how long ago ``then`` was, in seconds since the epoch, as words such as ``3 min``."""
    if then is None:
        return "-"
    seconds = max(0.0, time.time() - then)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


# -- parts ------------------------------------------------------------------------------------------------------------
class _WithoutSlurm(Observer):
    """Never asks SLURM, for callers that need no states."""

    def jobs(self) -> None:
        return None


_WITHOUT_SLURM = _WithoutSlurm()


def _read(folder: RunFolder, observer: Observer) -> Run:
    files = read_files(folder)
    standing = observer.standing(files)
    if standing.state != files.status:  # it may have ended in the meantime
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


def _ids_of_name(given: str, runs_dir: Path, ids: Sequence[str], sweeps: Sequence[str]) -> list[str]:
    """Return the ids of the runs of this name, else of those whose names begin with it."""
    names = {run_id: _name(RunFolder(runs_dir / run_id)) for run_id in ids}
    for fits in (str.__eq__, str.startswith):
        if matching := [run_id for run_id, name in names.items() if given and name and fits(name, given)]:
            return matching
    known = sorted({*ids, *sweeps, *filter(None, names.values())})
    hint = did_you_mean(given, known)
    if not hint.endswith("?") and len(known) > 2 * _MOST_NAMED:
        hint = "; sgp runs lists them all"
    raise ConfigurationError(f"no run or sweep '{given}' in {runs_dir}{hint}")


def _name(folder: RunFolder) -> str | None:
    return text((read_json(folder.spec) or {}).get("name")) or text((read_json(folder.summary) or {}).get("name"))


def _folders(home: Path, kind: re.Pattern[str]) -> list[str]:
    try:
        with os.scandir(home) as entries:
            return sorted(entry.name for entry in entries if kind.fullmatch(entry.name) and entry.is_dir())
    except OSError:
        return []
