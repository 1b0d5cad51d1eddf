"""A report: runs, what tells them apart, and what is shown of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.report.axis import Axis
from launcher.report.groups import Group, grouped, single_label
from launcher.report.panels import Panel, metric_names, panels
from launcher.report.record import Record
from launcher.report.results import ResultRow, group_lines, run_lines
from launcher.runs.settings import SEED, changed_keys, written
from sgp_core.errors import ConfigurationError, did_you_mean

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
"""What a reader wants to know about all runs, if it is the same for all."""


_USUAL = {("Partition", "iid"), ("Outer", "none"), ("Pace", "every"), ("Compression", "none"), ("Schedule", "constant")}
"""What need not be said."""


@dataclass(frozen=True)
class Report:
    """Everything that is shown, in any format."""

    kind: str
    """What was asked for: ``Sweep 1234abcd``, ``Run ...`` or ``12 runs``."""
    title: str
    records: tuple[Record, ...]
    groups: tuple[Group, ...]
    labels: tuple[str, ...]
    """What each run is called in its charts."""
    changed: tuple[str, ...]
    shared: Mapping[str, str]
    metric: str
    axis: Axis
    charts: tuple[Panel, ...]
    runs: tuple[ResultRow, ...]
    merged: tuple[ResultRow, ...]
    """The lines of groups."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """``command``, ``created`` and where the runs come from."""

    @property
    def seeds(self) -> bool:
        """Whether some runs differ by their seed only."""
        return any(len(group.members) > 1 for group in self.groups)

    @property
    def thinned(self) -> bool:
        """Whether some curve has more points than are drawn."""
        return any(record.thinned for record in self.records)


def make_report(
    kind: str, records: Sequence[Record], metric: str, axis: Axis, origin: Mapping[str, Any] | None = None
) -> Report:
    """Work out what a report shows.

    Raises:
        ConfigurationError: no run has measured ``metric``, though there are measurements.
    """
    measured = {name for record in records for name in record.measured}
    if measured and not measured & set(metric_names(metric)):
        raise ConfigurationError(
            f"no run has a validation metric '{metric}'{did_you_mean(metric, measured - _NO_SCORE)}"
        )
    keys = changed_keys([record.settings for record in records if record.settings])
    groups = grouped(records, keys)
    lines = run_lines(records, groups, keys, metric)
    return Report(
        kind=kind,
        title=_title(records, groups, keys),
        records=tuple(records),
        groups=tuple(groups),
        labels=tuple(single_label(record, keys) for record in records),
        changed=tuple(keys),
        shared=_shared(records, keys),
        metric=metric,
        axis=axis,
        charts=tuple(panels(metric)),
        runs=tuple(lines),
        merged=tuple(group_lines(lines, groups, metric)),
        origin=origin or {},
    )


_NO_SCORE = {"step", "epoch", "wall_time_s", "lr", "bytes_sent", "world_size", "samples_per_s", "consensus_distance"}
_NO_SCORE |= {"push_sum_weight_min", "push_sum_weight_max"}
_NO_SCORE |= {"step_time_ms", "data_time_ms", "compute_time_ms", "comm_time_ms"}
"""What validation rows hold beside scores, and a mistyped score is not likely to mean."""

_LONG_TITLE = 70


def _title(records: Sequence[Record], groups: Sequence[Group], keys: Sequence[str]) -> str:
    if len(groups) == 1:
        return records[0].name if len(records) == 1 or not records[0].experiment else _nameless(records[0])
    versus = " vs ".join(group.label for group in groups)
    if len(groups) <= 4 and len(versus) <= _LONG_TITLE:
        return versus
    return " × ".join(key for key in keys if key != SEED) or f"{len(records)} runs"


def _nameless(record: Record) -> str:
    """The name of a run without its seed."""
    return record.name.removesuffix(f"-seed{written(record.settings.get(SEED))}")


def _shared(records: Sequence[Record], keys: Sequence[str]) -> dict[str, str]:
    known = next((record.settings for record in records if record.settings), {})
    facts = {title: written(known[key]) for key, title in SHARED if key in known and key not in keys}
    return {title: value for title, value in facts.items() if (title, value) not in _USUAL}
