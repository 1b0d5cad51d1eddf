"""Importing plug-ins, each once in a process, and keeping account of what each registers."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import CodeType

from sgp_core.errors import ConfigurationError
from sgp_core.plugins.find import find_installed_plugins, find_plugin, source_path
from sgp_core.plugins.plugin import Plugin, PluginKind, source_hash
from sgp_core.registry import Registration, record_registrations

_LOADED: dict[str, tuple[Plugin, list[Registration]]] = {}
"""Plug-ins by module, each with what it has registered."""


def load_plugins(names: Iterable[str | Path]) -> list[Plugin]:
    """Import plug-ins and return them, those of installed packages (group ``sgp.plugins``) first.

    Stable extension point.

    A plug-in that is loaded already is left alone; one whose code has changed since is loaded anew.

    Args:
        names: importable modules, and files (a name that ends in ``.py``, relative to the current directory). A module
            is looked for among what is installed, then in the current directory.

    Raises:
        ConfigurationError: a plug-in is missing, or fails when it is imported; the message names its file and line.
    """
    found = find_installed_plugins()
    for name in names:
        plugin = find_plugin(str(name))
        if plugin.module not in [other.module for other in found]:
            found.append(plugin)
    for plugin in found:
        _load(plugin)
    return found


def load_recorded_plugins(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Import the plug-ins of a run from the paths it recorded, and return them with their present hashes.

    Raises:
        ConfigurationError: a plug-in is gone, or fails when it is imported.
    """
    present = []
    for plugin in plugins:
        if not os.path.exists(plugin.path):
            raise ConfigurationError(f"plug-in {plugin.name}: {plugin.path} is gone")
        present.append(dataclasses.replace(plugin, sha256=source_hash(Path(plugin.path))))
        _load(present[-1])
    return present


def loaded_plugins() -> list[Plugin]:
    """Return the plug-ins that are loaded in this process."""
    return [plugin for plugin, _ in _LOADED.values()]


def registrations_of(plugins: Iterable[Plugin]) -> list[Registration]:
    """Return what loaded plug-ins have registered."""
    return [part for plugin in plugins for part in _LOADED[plugin.module][1]]


def unload_plugin(plugin: Plugin) -> None:
    """Forget a plug-in, what it registered and its modules, so that it can be loaded anew."""
    _withdraw(_LOADED.pop(plugin.module)[1])
    _forget_modules(_modules(plugin))


# -- importing --------------------------------------------------------------------------------------------------------
def _load(plugin: Plugin) -> None:
    if plugin.module in _LOADED and _LOADED[plugin.module][0].sha256 == plugin.sha256:
        return
    for other in loaded_plugins():
        if other.path == plugin.path and other.sha256 != plugin.sha256:
            unload_plugin(other)
    before = set(_modules(plugin))
    with record_registrations() as registrations:
        try:
            _import(plugin)
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            _withdraw(registrations)
            _forget_modules(set(_modules(plugin)) - before)
            raise ConfigurationError(_explain(plugin, error)) from error
    _LOADED[plugin.module] = plugin, registrations


def _import(plugin: Plugin) -> None:
    """Import from the plug-in's path alone: nothing is added to ``sys.path``, where it could hide other modules."""
    if plugin.kind is PluginKind.file:
        loader = _UncachedLoader(plugin.module, plugin.path)
        _execute(importlib.util.spec_from_file_location(plugin.module, plugin.path, loader=loader))
        return
    top, path = plugin.name.partition(".")[0], Path(plugin.path)
    if source_path(top) != path:
        if top in sys.modules:
            raise ConfigurationError(f"another module '{top}' is imported already, from {source_path(top)}")
        _execute(_spec_of(top, path))
    importlib.import_module(plugin.name)


def _spec_of(top: str, path: Path) -> importlib.machinery.ModuleSpec | None:
    """Return how to import a top-level module that is not on ``sys.path``."""
    if path.is_file():
        return importlib.util.spec_from_file_location(top, path)
    if (path / "__init__.py").is_file():
        return importlib.util.spec_from_file_location(top, path / "__init__.py", submodule_search_locations=[str(path)])
    spec = importlib.machinery.ModuleSpec(top, None, is_package=True)
    spec.submodule_search_locations = [str(path)]
    return spec


def _execute(spec: importlib.machinery.ModuleSpec | None) -> None:
    assert spec is not None, "the path is a Python file or a folder"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if spec.loader is not None:
        spec.loader.exec_module(module)


class _UncachedLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source each time: a cache that is up to date to the second could hold other code than was hashed."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _modules(plugin: Plugin) -> list[str]:
    """Return the names of the plug-in's modules that are imported."""
    top = plugin.module.partition(".")[0]
    return [name for name in sys.modules if name == top or name.startswith(f"{top}.")]


def _forget_modules(names: Iterable[str]) -> None:
    for name in names:
        del sys.modules[name]


def _withdraw(registrations: Iterable[Registration]) -> None:
    for registration in registrations:
        registration.registry.remove(registration.name)


# -- explaining -------------------------------------------------------------------------------------------------------
def _explain(plugin: Plugin, error: BaseException) -> str:
    """Return one sentence: the file and line of the plug-in at fault, and what went wrong there."""
    place = _place(plugin, error)
    what = str(error.msg if isinstance(error, SyntaxError) else error).partition("\n")[0]
    if not isinstance(error, ConfigurationError):
        what = f"{type(error).__name__}: {what}" if what else type(error).__name__
    return f"plug-in {place or plugin.name}: {what}"


def _place(plugin: Plugin, error: BaseException) -> str | None:
    """Return ``file:line`` of the last line of the plug-in's own code that took part, None if none did."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        lines.append((error.filename or "", error.lineno))
    own = [(file, line) for file, line in lines if Path(file).is_relative_to(plugin.path)]
    if not own:
        return None
    file, line = own[-1]
    here = os.path.relpath(file)
    return f"{file if here.startswith(os.pardir) else here}:{line}"
