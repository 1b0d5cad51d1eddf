"""A copy of the code a run was started with, so that what is edited afterwards changes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.config.run_plan import RunPlan

PACKAGES = ("launcher", "sgp_core")


def with_code(plans: Sequence[RunPlan], *, take: bool) -> list[RunPlan]:
    """Return the plans with the folder their code is to be imported from, which is made if ``take``."""
    runs_dir = plans[0].run_dir.parent
    folder = take_snapshot(runs_dir) if take else snapshot_path(runs_dir)
    return [dataclasses.replace(plan, snapshot=str(folder)) for plan in plans]


def snapshot_path(runs_dir: Path) -> Path:
    """Return where the copy of the present code belongs: named by its content, so equal code is kept once."""
    digest = hashlib.sha256()
    for name, path in _files():
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return runs_dir / "snapshots" / digest.hexdigest()[:10]


def take_snapshot(runs_dir: Path) -> Path:
    """Copy the code, unless it has been copied already, and return the folder to import it from."""
    folder = snapshot_path(runs_dir)
    if not folder.exists():
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        for name, path in _files():
            target = unfinished / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        try:
            unfinished.rename(folder)
        except OSError:  # somebody else was faster
            shutil.rmtree(unfinished)
    return folder


def with_snapshot(folder: str) -> str:
    """Return a ``PYTHONPATH`` that begins with ``folder``."""
    return os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))


def _files() -> Iterator[tuple[str, Path]]:
    """Yield name and path of every file of our packages."""
    home = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        for path in sorted((home / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(home)), path
