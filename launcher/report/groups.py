"""Groups of runs that differ by their seed only, and the names of runs and groups in charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from launcher.report.record import Record
from launcher.runs.seeds import group_by_seed
from launcher.runs.settings import SEED, format_setting


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed only.

    Attributes:
        members: their positions in the list of records.
        values: by setting, how charts call its value.
    """

    label: str
    members: tuple[int, ...]
    values: Mapping[str, str] = field(default_factory=dict)


def group_records(records: Sequence[Record], keys: Sequence[str]) -> list[Group]:
    """Group the runs that differ by their seed only, in the order in which they come.

    Args:
        keys: the settings in which the runs differ.
    """
    groups = group_by_seed([record.settings for record in records])
    firsts = [records[members[0]] for members in groups]
    return [
        Group(_label(record, keys), members, _value_names(record, keys))
        for record, members in zip(firsts, groups, strict=True)
    ]


def changed_values(record: Record, keys: Sequence[str]) -> dict[str, str]:
    """Return the values of these settings as one types them; a setting that the run lacks is left out."""
    return {key: format_setting(record.settings[key]) for key in keys if key in record.settings}


def single_label(record: Record, keys: Sequence[str]) -> str:
    """Return a name that tells one run from the others, its seed included."""
    seed = f"seed {format_setting(record.settings.get(SEED))}" if SEED in keys else ""
    telling = _label(record, keys) if set(keys) - {SEED} or not seed else ""
    return " · ".join(part for part in (telling, seed) if part)


def _label(record: Record, keys: Sequence[str]) -> str:
    """Return a name made of values."""
    return " · ".join(_value_names(record, keys).values()) or record.name


def _value_names(record: Record, keys: Sequence[str]) -> dict[str, str]:
    """Return names of values: choices by their names, options as ``lr=0.1``, by full key where ambiguous."""
    values = changed_values(record, [key for key in keys if key != SEED])
    short = [key.rpartition(".")[2] for key in values]
    names = {}
    for key, value in values.items():
        name = key.rpartition(".")[2]
        choice = isinstance(record.experiment.get(key), Mapping)
        names[key] = value if choice else f"{name if short.count(name) == 1 else key}={value}"
    return names
