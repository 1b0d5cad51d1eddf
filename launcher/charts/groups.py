"""Which runs belong together, and what tells them from the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.charts.record import Record

SEED = "seed"


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed only."""

    label: str
    members: tuple[int, ...]
    """Positions in the list of records."""


def settings_of(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an experiment by their names on the command line; a choice stands for its name."""
    flat: dict[str, Any] = {}
    for key, value in experiment.items():
        if isinstance(value, Mapping):
            flat |= {key if option == "name" else f"{key}.{option}": given for option, given in value.items()}
        else:
            flat["workers" if key == "world_size" else key] = value
    return flat


def changed_keys(records: Sequence[Record]) -> list[str]:
    """Return the settings in which the runs differ, most telling first and the seed last.

    What merely follows from another choice (every outer has its own options) is left out.
    """
    settings = [settings_of(record.experiment) for record in records if record.experiment]
    keys = list(dict.fromkeys(key for given in settings for key in given))
    changed = []
    for key in keys:
        choice = key.partition(".")[0]
        values: dict[str, set[str]] = {}
        for given in settings:
            if key in given:
                chosen = _text(given.get(choice)) if choice != key else ""
                values.setdefault(chosen, set()).add(_text(given[key]))
        if any(len(different) > 1 for different in values.values()):
            changed.append(key)
    return sorted(changed, key=lambda key: key == SEED)


def changed_values(record: Record, keys: Sequence[str]) -> dict[str, str]:
    """Return what a run has for the changed keys, as one would type it; nothing where it has no such setting."""
    settings = settings_of(record.experiment)
    return {key: _text(settings[key]) for key in keys if key in settings}


def grouped(records: Sequence[Record], keys: Sequence[str]) -> list[Group]:
    """Group the runs that differ by seed only, in the order in which they come."""
    members: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        same = {key: value for key, value in record.experiment.items() if key != SEED}
        identity = json.dumps(same, sort_keys=True, default=str) if record.experiment else record.run_id
        members.setdefault(identity, []).append(index)
    return [Group(_label(records[some[0]], keys), tuple(some)) for some in members.values()]


def single_label(record: Record, keys: Sequence[str]) -> str:
    """Return what tells one run from the others, its seed included."""
    seed = f"seed {record.seed}" if SEED in keys else ""
    telling = _label(record, keys) if set(keys) - {SEED} or not seed else ""
    return " · ".join(part for part in (telling, seed) if part)


def _label(record: Record, keys: Sequence[str]) -> str:
    """Choices by their names alone; options as ``lr=0.1``, with as much of their key as it takes."""
    values = changed_values(record, [key for key in keys if key != SEED])
    short = [key.rpartition(".")[2] for key in values]
    parts = []
    for key, value in values.items():
        name = key.rpartition(".")[2]
        choice = isinstance(record.experiment.get(key), Mapping)
        parts.append(value if choice else f"{name if short.count(name) == 1 else key}={value}")
    return " · ".join(parts) or record.name


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), default=str)
