"""The table of a report: a line for each run, and one for each group of seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from launcher.report import number_format
from launcher.report.axis import Axis
from launcher.report.groups import Group, changed_values, single_label
from launcher.report.panels import metric_names
from launcher.report.record import Record
from launcher.runs.metric_rows import lower_is_better


@dataclass(frozen=True)
class Column:
    """One number of a run."""

    key: str
    title: str
    show: Callable[[float], str]


COLUMNS = (
    Column("steps", "Steps", lambda value: f"{value:,.0f}"),
    Column("best", "Best", number_format.plain),
    Column("final", "Final", number_format.plain),
    Column("loss", "Loss", number_format.plain),
    Column("consensus_distance", "Distance", number_format.small),
    Column("step_time_ms", "ms / step", number_format.milliseconds),
    Column("bytes_sent", "Sent", number_format.size),
    Column("wall_time_s", "Time", number_format.duration),
)


_COUNTS = ("steps", "best_step", "bytes_sent")


@dataclass(frozen=True)
class ResultRow:
    """A run, or the runs of a group as one."""

    label: str
    group: int
    members: tuple[int, ...]
    state: str
    changed: Mapping[str, str]
    numbers: Mapping[str, float]
    """What is known of :data:`COLUMNS`, and more; of a group, the mean."""
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest, where a group's runs differ."""
    run_id: str | None = None
    error: str | None = None
    winner: bool = False


def run_lines(records: Sequence[Record], groups: Sequence[Group], keys: Sequence[str], metric: str) -> list[ResultRow]:
    """Return a line for each run, the winner marked."""
    group_of = {member: index for index, group in enumerate(groups) for member in group.members}
    lines = [
        ResultRow(
            label=single_label(record, keys),
            group=group_of[index],
            members=(index,),
            state=record.state,
            changed=changed_values(record, keys),
            numbers=_numbers(record, metric),
            run_id=record.run_id,
            error=record.error,
        )
        for index, record in enumerate(records)
    ]
    return _with_winner(lines, metric)


def group_lines(runs: Sequence[ResultRow], groups: Sequence[Group], metric: str) -> list[ResultRow]:
    """Return a line for each group, the winner marked."""
    return _with_winner([_merged(group, [runs[m] for m in group.members]) for group in groups], metric)


def line_as_json(line: ResultRow) -> dict[str, Any]:
    """Return a line as plain data."""
    facts: dict[str, Any] = {"label": line.label, "state": line.state, "changed": dict(line.changed)}
    if line.run_id is not None:
        facts = {"run_id": line.run_id, **facts, "error": line.error}
    else:
        facts |= {"runs": len(line.members), "spread": {key: list(ends) for key, ends in line.spread.items()}}
    numbers = {
        key: int(value) if value.is_integer() and key in _COUNTS else value for key, value in line.numbers.items()
    }
    return {**facts, **numbers, "winner": line.winner}


def _numbers(record: Record, metric: str) -> dict[str, float]:
    numbers: dict[str, float | None] = {"loss": record.last("train", "loss")}
    scores = record.curve(("val",), metric_names(metric))
    if scores is not None:
        steps, values = scores.x[Axis.step], scores.values
        at = int(values.argmin() if lower_is_better(metric) else values.argmax())
        numbers |= {"final": float(values[-1]), "best": float(values[at]), "best_step": float(steps[at])}
    for key in ("consensus_distance", "bytes_sent"):
        numbers[key] = record.last("all", key)
    numbers["steps"], numbers["wall_time_s"] = record.steps, record.wall_time_s
    if record.step_time_ms is not None:
        numbers["step_time_ms"] = sum(record.step_time_ms.values())
        numbers |= {f"{part}_time_ms": spent for part, spent in record.step_time_ms.items()}
    return {key: value for key, value in numbers.items() if value is not None}


def _merged(group: Group, lines: Sequence[ResultRow]) -> ResultRow:
    known = list(dict.fromkeys(key for line in lines for key in line.numbers))
    values = {key: [line.numbers[key] for line in lines if key in line.numbers] for key in known}
    states = [line.state for line in lines]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    shared = lines[0].changed.items()
    return ResultRow(
        label=group.label,
        group=lines[0].group,
        members=group.members,
        state=states[0] if len(lines) == 1 else ", ".join(counts),
        changed={key: value for key, value in shared if all(line.changed.get(key) == value for line in lines)},
        numbers={key: sum(some) / len(some) for key, some in values.items()},
        spread={key: (min(some), max(some)) for key, some in values.items() if min(some) < max(some)},
    )


def _with_winner(lines: Sequence[ResultRow], metric: str) -> list[ResultRow]:
    """Mark the best score, and all that tie with it; a run alone has won nothing."""
    scores = [line.numbers["best"] for line in lines if "best" in line.numbers]
    if len(scores) < 2:
        return list(lines)
    best = min(scores) if lower_is_better(metric) else max(scores)
    return [replace(line, winner=line.numbers.get("best") == best) for line in lines]
