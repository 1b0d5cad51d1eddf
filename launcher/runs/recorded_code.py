"""The code that a run recorded: its copy of the package and its plug-ins, found where they are now."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from sgp_core.errors import ConfigurationError
from sgp_core.plugins import Plugin


def find_snapshot(snapshot: str, runs_dir: Path) -> str:
    """Return the path of a run's copy of the code: where it was, or beside the runs if they were moved.

    Raises:
        ConfigurationError: it is in neither place.
    """
    for place in (Path(snapshot), runs_dir / "snapshots" / Path(snapshot).name):
        if place.is_dir():
            return str(place)
    raise ConfigurationError(f"its copy of the code, {snapshot}, is gone; its own command starts it with today's")


def find_plugins(plugins: Iterable[Plugin], snapshot: str | None, runs_dir: Path) -> tuple[Plugin, ...]:
    """Return the plug-ins of a run; those in its copy of the code at the present place of that copy.

    Args:
        snapshot: the recorded path of the copy; None if the run has none.

    Raises:
        ConfigurationError: see :func:`find_snapshot`.
    """
    if snapshot is None:
        return tuple(plugins)
    present = find_snapshot(snapshot, runs_dir)
    return tuple(_relocate(plugin, Path(snapshot), Path(present)) for plugin in plugins)


def _relocate(plugin: Plugin, before: Path, now: Path) -> Plugin:
    path = Path(plugin.path)
    if not path.is_relative_to(before):
        return plugin
    return dataclasses.replace(plugin, path=str(now / path.relative_to(before)))
