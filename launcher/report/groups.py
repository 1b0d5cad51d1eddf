"""Which runs belong together, and what they are called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.report.record import Record
from launcher.runs.settings import SEED, written


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed only."""

    label: str
    members: tuple[int, ...]
    """Positions in the list of records."""


def grouped(records: Sequence[Record], keys: Sequence[str]) -> list[Group]:
    """Group the runs that differ by seed only, in the order in which they come.

    Args:
        keys: the settings in which the runs differ.
    """
    members: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        same = {key: value for key, value in record.settings.items() if key != SEED}
        identity = json.dumps(same, sort_keys=True, default=str) if same else record.run_id
        members.setdefault(identity, []).append(index)
    return [Group(_label(records[some[0]], keys), tuple(some)) for some in members.values()]


def changed_values(record: Record, keys: Sequence[str]) -> dict[str, str]:
    """Return what a run has for these settings, as one would type it; nothing where it has no such setting."""
    return {key: written(record.settings[key]) for key in keys if key in record.settings}


def single_label(record: Record, keys: Sequence[str]) -> str:
    """Return what tells one run from the others, its seed included."""
    seed = f"seed {written(record.settings.get(SEED))}" if SEED in keys else ""
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
