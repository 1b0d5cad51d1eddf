"""The facts about a run that a report shows, read from its folder. Damaged files count as missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.report.axis import Axis
from launcher.report.series import Series, series_of
from launcher.runs.find import Run
from launcher.runs.json_fields import mapping, number
from launcher.runs.settings import experiment_settings
from launcher.runs.timeline import RunTimeline, read_timeline
from sgp_core.tracking import read_rows

SPLITS = ("train", "val")
TIMES = ("data", "compute", "communication")


@dataclass(frozen=True)
class Record:
    """One run, up to its latest row.

    Attributes:
        settings: the experiment and evaluation by their names on the command line.
        curves: by split and metric.
        steps: steps completed.
        wall_time_s: seconds of training.
        virtual_time_s: seconds on the virtual clock; None for a run without one.
        step_time_ms: mean milliseconds per step at rank 0, for each of :data:`TIMES`.
        measured: names of the metrics in validation rows.
        timeline: of the steps that its workers have recorded.
        thinned: whether there are more points than ``curves`` hold.
    """

    run_id: str
    name: str
    state: str
    experiment: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    curves: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    steps: float | None = None
    wall_time_s: float | None = None
    virtual_time_s: float | None = None
    step_time_ms: Mapping[str, float] | None = None
    measured: frozenset[str] = frozenset()
    timeline: RunTimeline | None = None
    thinned: bool = False

    def curve(self, splits: tuple[str, ...], metrics: tuple[str, ...]) -> Series | None:
        """Return the curve of the first of ``metrics`` that was measured in one of ``splits``; None without any."""
        for metric in metrics:
            for split in splits:
                found = self.curves.get((split, metric))
                if found is not None and len(found):
                    return found
        return None

    def last(self, split: str, metric: str) -> float | None:
        """Return the latest value of a metric, None if it was never measured."""
        found = self.curves.get((split, metric))
        return float(found.values[-1]) if found is not None and len(found) else None

    def is_on(self, axis: Axis) -> bool:
        """Whether some curve has a place on a horizontal axis."""
        return any(len(curve.over(axis)[0]) for curve in self.curves.values())


def read_record(run: Run, wanted: Sequence[tuple[str, str]]) -> Record:
    """Return the record of a run.

    Args:
        wanted: split and metric of the curves to read; ``all`` stands for both splits together.
    """
    try:
        rows = read_rows(run.folder.metrics)
    except OSError:
        rows = []
    by_split = {split: [row for row in rows if row.get("split") == split] for split in SPLITS} | {"all": rows}
    full = {(split, metric): series_of(by_split[split], metric) for split, metric in wanted}
    curves = {key: series.thin() for key, series in full.items() if len(series)}
    return Record(
        run_id=run.run_id,
        name=run.name,
        state=run.state,
        experiment=run.experiment,
        settings=experiment_settings(run.spec),
        provenance=mapping(run.spec.get("provenance")),
        error=_message(run.error),
        curves=curves,
        steps=_greatest(rows, "step"),
        wall_time_s=_greatest(rows, "wall_time_s"),
        virtual_time_s=_greatest(rows, "virtual_time_s"),
        step_time_ms=_step_time(by_split["train"]),
        timeline=read_timeline(run.folder.path),
        measured=frozenset(name for row in by_split["val"] for name in row if number(row[name]) is not None),
        thinned=any(len(curves[key]) < len(full[key]) for key in curves),
    )


def _greatest(rows: list[dict[str, Any]], name: str) -> float | None:
    return max((value for row in rows if (value := number(row.get(name))) is not None), default=None)


def _step_time(rows: list[dict[str, Any]]) -> dict[str, float] | None:
    """Return the mean times over all steps; a row counts for the steps since the row before."""
    sums, steps, before = dict.fromkeys(TIMES, 0.0), 0.0, 0.0
    for row in rows:
        step, total = number(row.get("step")), number(row.get("step_time_ms"))
        if step is None or total is None or step <= before:
            continue
        compute, communication = number(row.get("compute_time_ms")) or 0.0, number(row.get("comm_time_ms")) or 0.0
        for part, spent in zip(TIMES, (max(0.0, total - compute - communication), compute, communication), strict=True):
            sums[part] += spent * (step - before)
        steps += step - before
        before = step
    return {part: spent / steps for part, spent in sums.items()} if steps else None


def _message(error: Mapping[str, Any] | None) -> str | None:
    if error is None:
        return None
    kind, message = error.get("type"), str(error.get("message") or "").strip()
    first = message.splitlines()[0] if message else ""
    return f"{kind}: {first}" if kind and not error.get("user_mistake") else first or None
