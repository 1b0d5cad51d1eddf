"""A report: runs, the settings in which they differ, their charts and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.report.axis import Axis
from launcher.report.groups import Group, group_records, single_label
from launcher.report.looks import Looks, choose_looks
from launcher.report.panels import Panel, make_panels
from launcher.report.record import Record
from launcher.report.table_rows import TableRow, group_rows, run_rows
from launcher.runs.ranking import Ranking
from launcher.runs.settings import SEED, changed_keys, format_setting
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.metrics import LOSS, RUN_METRICS, Metric

SHARED = (
    ("model", "Model"),
    ("dataset", "Data"),
    ("partition", "Partition"),
    ("algorithm", "Algorithm"),
    ("topology", "Topology"),
    ("outer", "Outer"),
    ("pace", "Pace"),
    ("compression", "Compression"),
    ("optimizer", "Optimizer"),
    ("optimizer.lr", "Learning rate"),
    ("schedule", "Schedule"),
    ("workers", "Workers"),
    ("training.batch_size", "Batch per worker"),
    ("training.epochs", "Epochs"),
    (SEED, "Seed"),
)
"""Settings, and their titles, that the report's header shows where all runs have the same value."""

_USUAL = {("Partition", "iid"), ("Outer", "none"), ("Pace", "every"), ("Compression", "none"), ("Schedule", "constant")}
"""Values that the header leaves out."""


@dataclass(frozen=True)
class Report:
    """Everything that a report shows, in any format.

    Attributes:
        kind: what was asked for: ``Sweep 1234abcd``, ``Run ...`` or ``12 runs``.
        looks: colour and dash of each group.
        labels: the name of each run in the charts.
        changed: the settings in which the runs differ.
        shared: settings that are the same for all runs, by their titles.
        objective: the metric that ranks the runs.
        axis: the horizontal axis at first.
        axes: all that there are to choose from.
        runs: a row for each run, in the order of ``records``.
        merged: a row for each group, in the order of ``groups``.
        ranking: which of them is best.
        origin: ``command``, ``created`` and where the runs come from.
    """

    kind: str
    title: str
    records: tuple[Record, ...]
    groups: tuple[Group, ...]
    looks: Looks
    labels: tuple[str, ...]
    changed: tuple[str, ...]
    shared: Mapping[str, str]
    objective: Metric
    axis: Axis
    axes: tuple[Axis, ...]
    charts: tuple[Panel, ...]
    runs: tuple[TableRow, ...]
    merged: tuple[TableRow, ...]
    ranking: Ranking
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> bool:
        """Whether some runs differ by their seed only."""
        return any(len(group.members) > 1 for group in self.groups)

    @property
    def thinned(self) -> bool:
        """Whether some curve has more points than are drawn."""
        return any(record.thinned for record in self.records)


def make_report(
    kind: str, records: Sequence[Record], ranking: Ranking, axis: Axis, origin: Mapping[str, Any] | None = None
) -> Report:
    """Work out what a report shows.

    Args:
        ranking: of the same runs, in the same order.

    Raises:
        ConfigurationError: no run has measured the objective, though there are measurements, or none is on the axis.
    """
    axes = tuple(one for one in Axis if not one.optional or any(record.is_on(one) for record in records))
    if axis not in axes:
        raise ConfigurationError(
            f"--x {axis}: no run has a {axis.metric.label}; runs with cluster=simulator and computation=constant do"
        )
    objective = ranking.objective
    measured = {name for record in records for name in record.measured}
    if measured and not measured & {objective.name, f"{objective.name}_local_mean"}:
        scores = measured - {metric.name for metric in RUN_METRICS if metric != LOSS}
        raise ConfigurationError(
            f"no run has a validation metric '{objective.name}'{did_you_mean(objective.name, scores)}"
        )
    keys = changed_keys([record.settings for record in records if record.settings])
    groups = group_records(records, keys)
    rows = run_rows(records, groups, keys, ranking)
    return Report(
        kind=kind,
        title=_title(records, groups, keys),
        records=tuple(records),
        groups=tuple(groups),
        looks=choose_looks([group.values for group in groups]),
        labels=tuple(single_label(record, keys) for record in records),
        changed=tuple(keys),
        shared=_shared(records, keys),
        objective=objective,
        axis=axis,
        axes=axes,
        charts=tuple(
            chart for chart in make_panels(objective) if not chart.optional or any(map(chart.series, records))
        ),
        runs=tuple(rows),
        merged=tuple(group_rows(rows, groups, ranking)),
        ranking=ranking,
        origin=origin or {},
    )


_LONG_TITLE = 70


def _title(records: Sequence[Record], groups: Sequence[Group], keys: Sequence[str]) -> str:
    if len(groups) == 1:
        return records[0].name if len(records) == 1 or not records[0].experiment else _seedless_name(records[0])
    versus = " vs ".join(group.label for group in groups)
    if len(groups) <= 4 and len(versus) <= _LONG_TITLE:
        return versus
    return " × ".join(key for key in keys if key != SEED) or f"{len(records)} runs"


def _seedless_name(record: Record) -> str:
    """Return the name of a run without its seed."""
    return record.name.removesuffix(f"-seed{format_setting(record.settings.get(SEED))}")


def _shared(records: Sequence[Record], keys: Sequence[str]) -> dict[str, str]:
    known = next((record.settings for record in records if record.settings), {})
    facts = {title: format_setting(known[key]) for key, title in SHARED if key in known and key not in keys}
    return {title: value for title, value in facts.items() if (title, value) not in _USUAL}
