"""What is left of interrupted work: folders beside the run folders, and temporary files in them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from launcher.runs.find import run_ids
from launcher.runs.json_fields import text
from launcher.runs.run_folder import SWEEPS, RunFolder
from sgp_core.atomic_files import read_json

_SETTLED_S = 600.0
"""A younger copy of the code may belong to a run whose spec.json is not written yet."""


def leftovers(runs_dir: Path) -> list[Path]:
    """Return runs that ``rerun=all`` has replaced, copies of the code that no run uses, and unfinished removals."""
    return [
        *_folders(runs_dir / "replaced"),
        *_unnamed_snapshots(runs_dir),
        *(
            path
            for home in (runs_dir, runs_dir / SWEEPS)
            for path in _folders(home)
            if path.name.startswith(".removed-")
        ),
    ]


def remove_leftover(path: Path) -> str | None:
    """Remove a folder; return why that failed, None if it did not. A copy of the code is renamed first."""
    try:
        if path.parent.name == "snapshots":
            path = path.rename(path.parent.parent / f".removed-{os.getpid()}-{path.name}")
        shutil.rmtree(path)
    except OSError as error:
        return error.strerror or str(error)
    return None


def clean_temporary(folder: RunFolder) -> None:
    """Remove the files that killed processes were about to write. No process may be writing."""
    for path in (*folder.path.glob(".*.tmp"), *folder.path.glob("logs/*/.*.tmp")):
        path.unlink(missing_ok=True)


def _unnamed_snapshots(runs_dir: Path) -> Iterator[Path]:
    there = _folders(runs_dir / "snapshots")
    named = _named_snapshots(runs_dir) if there else set()
    for path in there:
        if path.name not in named and time.time() - path.stat().st_mtime > _SETTLED_S:
            yield path


def _named_snapshots(runs_dir: Path) -> set[str]:
    """Return the names of the copies of the code that any attempt of a run used; their paths change with the runs."""
    folders = [RunFolder(runs_dir / run_id) for run_id in run_ids(runs_dir)]
    specs = [spec for folder in folders for spec in (folder.spec, *folder.path.glob("logs/attempt-*/spec.json"))]
    named = [text((read_json(spec) or {}).get("snapshot")) for spec in specs]
    return {Path(snapshot).name for snapshot in named if snapshot}


def _folders(home: Path) -> list[Path]:
    """Return the folders in ``home``, without links."""
    try:
        with os.scandir(home) as entries:
            return sorted(home / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
