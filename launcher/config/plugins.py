"""Plug-ins on the command line: found before Hydra composes, since what they register is to be composed.

``plugins=[my_package.models,./my_algorithm.py]`` stands on the command line or in an experiment's file. As with every
setting, the command line replaces what a file says. Paths are relative to the current directory, as all paths in
settings are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.resources
import os
import posixpath
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from launcher.config.schema import CONFIG_MODULE, LIBRARY_GROUPS
from launcher.config.sweeps import parse_word
from sgp_core.errors import ConfigurationError
from sgp_core.plugins import Plugin, load_plugins, registrations_of
from sgp_core.registry import Registration, Registry
from sgp_core.training.settings import plain

_CONFIG_DIR = ("--config-dir", "-cd")


def plugin_names(value: Any) -> list[str]:
    """Return the plug-ins that the setting ``plugins`` names: none, one, or a list.

    Raises:
        ConfigurationError: it is something else.
    """
    names = [value] if isinstance(value, str) else list(value or []) if isinstance(value, list | None) else [value]
    for name in names:
        if not isinstance(name, str):
            raise ConfigurationError(f"plugins={name}: expected modules and files, as in plugins=[my_package,./my.py]")
    return names


@contextlib.contextmanager
def offer_plugins(arguments: Sequence[str]) -> Iterator[list[Registration]]:
    """Load the plug-ins that a command line asks for, let Hydra choose among what they register, and yield that.

    Raises:
        ConfigurationError: a plug-in is missing or broken.
    """
    completing = any(word.startswith("query=") for word in arguments)
    words = words_to_complete() if completing else arguments
    plugins: Sequence[Plugin] = ()
    try:
        plugins = load_plugins(_asked_for(words))
    except ConfigurationError:
        if not completing:  # a shell offers what there is
            raise
    folders = settings_folders(words)
    parts = [
        part
        for part in registrations_of(plugins)
        if part.registry.kind in LIBRARY_GROUPS and not _file(f"{part.registry.kind}/{part.name}", folders)
    ]
    with _stored(parts):
        yield parts


def words_to_complete() -> list[str]:
    """Return the words of the line that a shell completes, without the command."""
    line = os.environ.get("COMP_LINE", "")
    try:
        return shlex.split(line)[1:]
    except ValueError:  # a quotation mark is still open
        return line.split()[1:]


# -- which ------------------------------------------------------------------------------------------------------------
def _asked_for(arguments: Sequence[str]) -> list[str]:
    """Return the plug-ins that arguments name which Hydra has yet to read; it will refuse what cannot be read here."""
    given = _values("plugins", arguments)
    if given is None:
        folders = settings_folders(arguments)
        given = [_plugins_in(f"experiment/{name}", folders) for name in _values("experiment", arguments) or []]
    return list(dict.fromkeys(name for value in given for name in plugin_names(value)))


def _values(key: str, arguments: Sequence[str]) -> list[Any] | None:
    """Return what the last word that sets ``key`` sets it to, several values in a sweep; None without such a word."""
    words = [word.lstrip("+") for word in arguments if word.lstrip("+").startswith(f"{key}=")]
    if not words:
        return None
    from hydra.core.override_parser.types import ChoiceSweep

    override = parse_word(words[-1])
    if override is None:
        return []
    if not override.is_sweep_override():
        return [override.value()]
    if not isinstance(override.value(), ChoiceSweep):  # numbers, or what only Hydra can list
        return []
    values = [parse_word(f"{key}={value}") for value in override.sweep_string_iterator()]
    return [value.value() for value in values if value is not None]


def settings_folders(arguments: Sequence[str]) -> list[Traversable]:
    """Return the folders of settings in Hydra's order: ours, then that of ``--config-dir``."""
    folders: list[Traversable] = [importlib.resources.files(CONFIG_MODULE)]
    for flag, word in zip(arguments, [*arguments[1:], ""], strict=False):  # there may be none
        name, equals, value = flag.partition("=")
        if name in _CONFIG_DIR:
            folders.append(Path(value if equals else word))
    return folders


def _plugins_in(name: str, folders: Sequence[Traversable]) -> Any:
    """Return what a settings file says of ``plugins``, else what the last of the files says that it builds on."""
    settings = _read(name, folders)
    if "plugins" in settings:
        return settings["plugins"]
    for base in reversed(settings.get("defaults") or []):
        if isinstance(base, str) and base != "_self_":
            found = _plugins_in(posixpath.join("/", posixpath.dirname(name), base)[1:], folders)
            if found is not None:
                return found
    return None


def _read(name: str, folders: Sequence[Traversable]) -> Mapping[Any, Any]:
    """Return a settings file as it stands; nothing if it is missing or no YAML mapping."""
    from omegaconf import OmegaConf
    from yaml import YAMLError

    file = _file(name, folders)
    try:
        settings = OmegaConf.to_container(OmegaConf.create(file.read_text(encoding="utf-8"))) if file else {}
    except (YAMLError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _file(name: str, folders: Sequence[Traversable]) -> Traversable | None:
    """Return the settings file that Hydra would find under a name, None if there is none."""
    files = (folder.joinpath(f"{name}.yaml") for folder in folders)
    return next((file for file in files if file.is_file()), None)


# -- what they register -----------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _stored(parts: Sequence[Registration]) -> Iterator[None]:
    """Keep parts in Hydra's store for a while, where each is a choice as if it had a YAML file."""
    if not parts:
        yield
        return
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for part in parts:
        store.store(group=part.registry.kind, name=part.name, node=_settings(part.registry, part.name))
    try:
        yield
    finally:
        for part in parts:
            del store.repo[part.registry.kind][f"{part.name}.yaml"]


def _settings(registry: Registry[Any], name: str) -> dict[str, Any]:
    """Return what the YAML file of a choice would say: its name, and every option with its default."""
    return {"name": name, **{option: _default(field) for option, field in registry.options(name).items()}}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return plain(field.default_factory())
    return "???" if field.default is dataclasses.MISSING else plain(field.default)
