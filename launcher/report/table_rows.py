"""The rows of a report's table: one for each run, and one for each configuration over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.report.groups import Group, changed_values, single_label
from launcher.report.record import Record
from launcher.runs.number_format import format_value, plain
from launcher.runs.ranking import Evaluation, Ranking
from launcher.runs.seeds import summarize
from sgp_core.metrics import LOSS, find_metric


@dataclass(frozen=True)
class Column:
    """One number of a run: its key in ``numbers``, its title, and how people read it."""

    key: str
    title: str
    format: Callable[[float], str]


def _column(name: str, title: str, key: str = "") -> Column:
    metric = find_metric(name)
    return Column(key or name, title, lambda value: format_value(metric, value))


COLUMNS = (
    _column("step", "Steps", key="steps"),
    Column("best", "Best", plain),
    Column("final", "Final", plain),
    _column(LOSS.name, "Loss"),
    _column("consensus_distance", "Distance"),
    _column("step_time_ms", "ms / step"),
    _column("bytes_sent", "Sent"),
    _column("wall_time_s", "Time"),
    _column("virtual_time_s", "Virtual time"),
)

_COUNTS = ("steps", "best_step", "bytes_sent")


@dataclass(frozen=True)
class TableRow:
    """A run, or the runs of a configuration as one.

    Attributes:
        group: position of its group, which decides its colour.
        members: positions of its runs.
        numbers: the values of :data:`COLUMNS`, and more; of a configuration, the means.
        spread: of a configuration, the sample standard deviations over its seeds.
        run_id: of a run; None for a configuration.
        winner: whether no other row is better.
    """

    label: str
    group: int
    members: tuple[int, ...]
    state: str
    changed: Mapping[str, str]
    numbers: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)
    run_id: str | None = None
    error: str | None = None
    winner: bool = False


def run_rows(
    records: Sequence[Record], groups: Sequence[Group], keys: Sequence[str], ranking: Ranking
) -> list[TableRow]:
    """Return a row for each run, in the order of ``records``."""
    group_of = {member: index for index, group in enumerate(groups) for member in group.members}
    return [
        TableRow(
            label=single_label(record, keys),
            group=group_of[index],
            members=(index,),
            state=record.state,
            changed=changed_values(record, keys),
            numbers=_numbers(record, ranking.evaluations[index]),
            run_id=record.run_id,
            error=record.error,
            winner=index in ranking.winners,
        )
        for index, record in enumerate(records)
    ]


def group_rows(runs: Sequence[TableRow], groups: Sequence[Group], ranking: Ranking) -> list[TableRow]:
    """Return a row for each group, in the order of ``groups``."""
    winners = {frozenset(configuration.runs) for configuration in ranking.configurations if configuration.winner}
    return [
        _merge(group, [runs[member] for member in group.members], winner=frozenset(group.members) in winners)
        for group in groups
    ]


def row_as_json(row: TableRow) -> dict[str, Any]:
    """Return a row as plain data."""
    facts: dict[str, Any] = {"label": row.label, "state": row.state, "changed": dict(row.changed)}
    if row.run_id is not None:
        facts = {"run_id": row.run_id, **facts, "error": row.error}
    else:
        facts |= {"runs": len(row.members), "spread": dict(row.spread)}
    numbers = {
        key: int(value) if value.is_integer() and key in _COUNTS else value for key, value in row.numbers.items()
    }
    return {**facts, **numbers, "winner": row.winner}


def _numbers(record: Record, evaluation: Evaluation | None) -> dict[str, float]:
    numbers: dict[str, float | None] = {"loss": record.last("train", LOSS.name)}
    if evaluation is not None:
        numbers |= {"final": evaluation.last, "best": evaluation.best, "best_step": evaluation.best_step}
    for key in ("consensus_distance", "bytes_sent"):
        numbers[key] = record.last("all", key)
    numbers |= {"steps": record.steps, "wall_time_s": record.wall_time_s, "virtual_time_s": record.virtual_time_s}
    if record.step_time_ms is not None:
        numbers["step_time_ms"] = sum(record.step_time_ms.values())
        numbers |= {f"{part}_time_ms": spent for part, spent in record.step_time_ms.items()}
    return {key: float(value) for key, value in numbers.items() if value is not None}


def _merge(group: Group, rows: Sequence[TableRow], *, winner: bool) -> TableRow:
    names = dict.fromkeys(key for row in rows for key in row.numbers)
    samples = {key: summarize([row.numbers[key] for row in rows if key in row.numbers]) for key in names}
    states = [row.state for row in rows]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    shared = rows[0].changed.items()
    return TableRow(
        label=group.label,
        group=rows[0].group,
        members=group.members,
        state=states[0] if len(rows) == 1 else ", ".join(counts),
        changed={key: value for key, value in shared if all(row.changed.get(key) == value for row in rows)},
        numbers={key: sample.mean for key, sample in samples.items()},
        spread={key: sample.std for key, sample in samples.items() if sample.std is not None},
        winner=winner,
    )
