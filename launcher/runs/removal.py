"""Removing run folders for good: never one that a run may still write to, nor a folder that is not a run's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from launcher.runs.find import Run, all_sweeps, reread
from launcher.runs.liveness import LIVE, Observer
from launcher.runs.run_folder import SWEEPS, RunFolder, RunInProgress

_MARKS = ("spec.json", "summary.json", "metrics.jsonl", "logs", ".lock")
"""The folder of a run holds one of these, or is empty."""


def objection(run: Run, runs_dir: Path) -> str | None:
    """Return why a run must stay, None if it may go."""
    path = run.folder.path
    if run.state in LIVE:
        return run.state if run.verified else f"may be {run.state}: {run.note}"
    if not run.verified:
        return f"may be queued: {run.note}"
    if path.is_symlink() or path.parent.resolve() != runs_dir.resolve():
        return f"not a folder in {runs_dir}"
    if any(path.iterdir()) and not any(os.path.lexists(path / mark) for mark in _MARKS):
        return "does not look like the folder of a run"
    return None


def remove_run(run: Run, runs_dir: Path, observer: Observer) -> str | None:
    """Remove a run's folder; return why that failed, None if it did not."""
    return _remove(run, runs_dir, observer, run.folder.path)


def remove_checkpoints(run: Run, runs_dir: Path, observer: Observer) -> str | None:
    """Remove a run's checkpoints; return why that failed, None if it did not."""
    return _remove(run, runs_dir, observer, checkpoints_of(run.folder))


def checkpoints_of(folder: RunFolder) -> Path:
    """Return the folder of a run's checkpoints."""
    return folder.path / "checkpoints"


def empty_sweeps(runs_dir: Path, named: Collection[str], removed: Collection[str]) -> list[Path]:
    """Return the folders of sweeps without a run left, among those that were named and those that lose a run."""
    return [
        sweep.path
        for sweep in all_sweeps(runs_dir)
        if (sweep.sweep_id in named or set(sweep.run_ids) & set(removed))
        and not any(os.path.lexists(runs_dir / run_id) for run_id in set(sweep.run_ids) - set(removed))
        and not sweep.path.is_symlink()
    ]


def remove_sweep(path: Path) -> None:
    """Remove a sweep's record and its SLURM files."""
    assert path.parent.name == SWEEPS
    _discard(path, path.parent)


def size_of(path: Path) -> int:
    """Return the bytes of all files below ``path``."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total


def _remove(run: Run, runs_dir: Path, observer: Observer, what: Path) -> str | None:
    """Rename the folder while the run is locked, so that it is gone at once, then delete it."""
    try:
        with run.folder.lock():
            if why := objection(reread(run, observer), runs_dir):
                return why
            if what.is_symlink() or not what.is_dir():
                return f"{what.name} is not a folder"
            aside = _aside(what, runs_dir)
    except RunInProgress:
        return "in use"
    except OSError as error:
        return f"{error.strerror or error}"
    return _delete(aside)


def _discard(path: Path, beside: Path) -> None:
    shutil.rmtree(_aside(path, beside))


def _aside(path: Path, beside: Path) -> Path:
    aside = beside / f".removed-{os.getpid()}-{path.parent.name}-{path.name}"
    os.rename(path, aside)
    return aside


def _delete(path: Path) -> str | None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        return f"{error.strerror or error}; what is left of it is in {path}"
    return None
