"""A copy of the code a run was started with, so that later edits change nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgp_core.plugins import Plugin, PluginKind, source_files

if TYPE_CHECKING:
    from launcher.config.run_plan import RunPlan

PACKAGES = ("launcher", "sgp_core")
_HOME = Path(__file__).resolve().parents[2]


def with_code(plans: Sequence[RunPlan], *, take: bool) -> list[RunPlan]:
    """Return the plans with the folder to import their code and plug-ins from, which is made if ``take``."""
    folders: dict[tuple[Plugin, ...], Path] = {}
    runs_dir = plans[0].run_dir.parent
    for plan in plans:
        if plan.plugins not in folders:
            make = take_snapshot if take else snapshot_path
            folders[plan.plugins] = make(runs_dir, plan.plugins)
    return [_moved(plan, folders[plan.plugins]) for plan in plans]


def snapshot_path(runs_dir: Path, plugins: Sequence[Plugin] = ()) -> Path:
    """Return where the copy of the present code belongs: named by its content, so equal code is kept once."""
    digest = hashlib.sha256()
    for name, path in _files(plugins):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return runs_dir / "snapshots" / digest.hexdigest()[:10]


def take_snapshot(runs_dir: Path, plugins: Sequence[Plugin] = ()) -> Path:
    """Copy the code, unless it has been copied already, and return the folder to import it from."""
    folder = snapshot_path(runs_dir, plugins)
    if not folder.exists():
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        for name, path in _files(plugins):
            target = unfinished / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        try:
            unfinished.rename(folder)
        except OSError:  # another launcher was faster
            shutil.rmtree(unfinished)
    return folder


def with_snapshot(folder: str) -> str:
    """Return a ``PYTHONPATH`` that begins with ``folder``."""
    return os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))


def _moved(plan: RunPlan, folder: Path) -> RunPlan:
    """Return the plan with its code and plug-ins at their places in a snapshot."""
    plugins = tuple(dataclasses.replace(plugin, path=str(folder / _place(plugin))) for plugin in plan.plugins)
    return dataclasses.replace(plan, snapshot=str(folder), plugins=plugins)


def _place(plugin: Plugin) -> Path:
    """Return where a plug-in lies in a snapshot: a module where it is imported from, a file in a folder of its own."""
    name = Path(plugin.path).name
    return Path("plugins", plugin.sha256[:10], name) if plugin.kind is PluginKind.file else Path(name)


def _files(plugins: Sequence[Plugin]) -> Iterator[tuple[str, Path]]:
    """Yield the place in a snapshot and the path of every file of our packages and of the plug-ins."""
    sources = {Path(package): _HOME / package for package in PACKAGES}
    sources.update({_place(plugin): Path(plugin.path) for plugin in plugins})
    for place, source in sources.items():
        for path in source_files(source):
            yield str(place / path.relative_to(source)), path
