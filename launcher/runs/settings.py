"""The settings of runs by their names on the command line, and the settings in which runs differ."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from launcher.config.clusters import SimulatorCluster
from launcher.config.trackers import trackers_in_spec
from launcher.runs.json_fields import mapping
from sgp_core.errors import ConfigurationError, did_you_mean

SEED = "seed"
WORKERS = "workers"
NODE_SIZE = "node_size"
UNIT = "algorithm.unit"
_EXTENDS = "extends"
_ONLY_WHERE_SET = (_EXTENDS, "model.weights")
"""Settings that runs have only where they were given; there a run with one differs from a run without."""
_CHECKSUM = "model.weights_sha256"
"""It goes with the path of the weights, which tells readers more."""

Settings = Mapping[str, Any]

_CONDITION = re.compile(r"([\w.]+)(!?=)(.*)", re.DOTALL)
_SECTIONS = ("evaluation", "checkpoint", "loader", "cluster", "tracker", "debug")
"""Sections of ``spec.json`` beside the experiment."""


def experiment_settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide a run's result: its experiment and its evaluation. A choice is its name."""
    given = {**mapping(spec.get("experiment")), **_clock(spec), "evaluation": spec.get("evaluation")}
    flat: dict[str, Any] = {}
    for key, value in given.items():
        if key == _EXTENDS and isinstance(value, Mapping):
            flat[key] = f"{value.get('run')} at step {value.get('step')}"
        elif isinstance(value, Mapping):
            flat |= _section(key, value)
        elif value is not None:
            flat[WORKERS if key == "world_size" else key] = value
    if "algorithm" in flat:
        flat[UNIT] = "node" if NODE_SIZE in flat else "worker"
    return flat


def _clock(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network and the computation of a run that has a virtual clock."""
    choices = {group: mapping(spec.get(group)) for group in ("network", "computation")}
    virtual = mapping(spec.get("cluster")).get("name") == SimulatorCluster.name
    return choices if virtual and choices["computation"].get("name", "none") != "none" else {}


def all_settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a run."""
    flat = experiment_settings(spec)
    for section in _SECTIONS:
        flat |= _section(section, mapping(spec.get(section)))
    if len(several := trackers_in_spec(spec)) > 1:
        for one in several:
            flat |= _section("tracker", one)
        flat["tracker"] = [one["name"] for one in several]
    return flat


def changed_keys(runs: Sequence[Settings]) -> list[str]:
    """Return the settings in which runs differ, in the order of the experiment and the seed last.

    Options that exist for one choice only are left out, since the choice itself tells them apart.
    """
    changed = []
    for key in dict.fromkeys(key for settings in runs for key in settings if key != _CHECKSUM):
        choice = key.partition(".")[0]
        values: dict[str, set[str]] = {}
        for settings in runs:
            if key in settings:
                chosen = format_setting(settings.get(choice)) if choice != key else ""
                values.setdefault(chosen, set()).add(format_setting(settings[key]))
        set_by_some = key in _ONLY_WHERE_SET and any(key not in settings for settings in runs)
        if set_by_some or any(len(different) > 1 for different in values.values()):
            changed.append(key)
    return sorted(changed, key=lambda key: key == SEED)


def format_setting(value: Any) -> str:
    """Return a value as users type it on the command line."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)


class Condition:
    """``key=value`` or ``key!=value``; several values, separated by commas, are alternatives."""

    def __init__(self, text: str) -> None:
        """Read a condition.

        Raises:
            ConfigurationError: ``text`` is not a condition.
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ConfigurationError(f"--where {text}: a condition is key=value, such as algorithm=sgp")
        self.key = WORKERS if found[1] == "world_size" else found[1]
        self._wanted, self._values = found[2] == "=", (found[3], *found[3].split(","))

    def holds(self, settings: Settings) -> bool:
        """Whether these settings fulfil the condition; settings without the key never do."""
        if self.key not in settings:
            return False
        return any(_same(settings[self.key], value) for value in self._values) == self._wanted

    def check(self, known: Collection[str]) -> None:
        """Refuse a key that no run has.

        Raises:
            ConfigurationError: there is no such setting.
        """
        if self.key in known:
            return
        raise ConfigurationError(f"--where {self.key}: no run has such a setting{nearest(self.key, known)}")


def nearest(key: str, known: Collection[str]) -> str:
    """Return a hint at a setting with the same last part, else at one of similar spelling; empty without any."""
    same = sorted(name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2])
    hint = f"; did you mean '{same[0]}'?" if same else did_you_mean(key, known)
    return hint if hint.endswith("?") else ""


def _section(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {name if option == "name" else f"{name}.{option}": value for option, value in options.items()}


def _same(value: Any, given: str) -> bool:
    if format_setting(value) == given:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return float(given) == value
    except ValueError:
        return False
