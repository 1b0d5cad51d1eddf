"""Where the code of a plug-in lies: from a name that a user wrote to a :class:`Plugin`."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.plugins.plugin import Plugin, PluginKind, source_hash

ENTRY_POINTS = "sgp.plugins"
"""Group of entry points whose modules are always loaded."""


def find_plugin(name: str) -> Plugin:
    """Return the plug-in that a user calls ``name``: a file if it ends in ``.py``, else a module.

    Raises:
        ConfigurationError: there is no such file or module.
    """
    return _find_file(name) if name.endswith(".py") else _find_module(name, PluginKind.module)


def find_installed_plugins() -> list[Plugin]:
    """Return the plug-ins that installed packages declare as entry points, sorted by module."""
    return [_find_module(module, PluginKind.entry_point) for module in _entry_points(tuple(sys.path))]


@functools.lru_cache(maxsize=1)
def _entry_points(path: tuple[str, ...]) -> list[str]:
    """Return the modules that packages on ``sys.path`` declare; they are looked for once, since that reads them all."""
    return sorted({point.module for point in importlib.metadata.entry_points(group=ENTRY_POINTS)})


def source_path(top: str) -> Path | None:
    """Return the folder or file of an importable top-level module, None if there is none."""
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).absolute()
    return Path(spec.origin).absolute() if spec.has_location and spec.origin else None


def _find_file(name: str) -> Plugin:
    path = Path(os.path.abspath(os.path.expanduser(name)))
    if not path.is_file():
        beside = [file.name for file in path.parent.glob("*.py")]
        raise ConfigurationError(f"plug-in {name}: there is no such file{did_you_mean(path.name, beside)}")
    return Plugin(name, str(path), source_hash(path), PluginKind.file)


def _find_module(name: str, kind: PluginKind) -> Plugin:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(f"plug-in '{name}' is neither a module (my_package.models) nor a file (./my_model.py)")
    top = name.partition(".")[0]
    path = source_path(top)
    if path is None:
        here = Path.cwd()
        path = next((place for place in (here / top, here / f"{top}.py") if place.exists()), None)
    if path is None:
        raise ConfigurationError(f"plug-in '{name}': no module '{top}' is installed or in {Path.cwd()}")
    return Plugin(name, str(path), source_hash(path), kind)
