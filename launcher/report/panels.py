"""The charts of curves in a report. The page and the figures draw the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.report.record import Record
from launcher.report.series import Series
from sgp_core.metrics import LOSS, Metric, NumberFormat, find_metric


@dataclass(frozen=True)
class Panel:
    """One chart of curves.

    Attributes:
        key: its identity, also in the names of files.
        splits: the splits whose rows are drawn; ``all`` for both together.
        metrics: names of metrics; a run's curve is the first of them that the run has measured.
        note: a sentence below the title.
        unit: of the values; empty for plain numbers.
        log: whether the scale is logarithmic at first.
        scalable: whether the reader may change the scale.
        optional: whether the chart is left out if no run has such a curve.
    """

    key: str
    title: str
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    note: str
    unit: str = ""
    log: bool = False
    scalable: bool = False
    optional: bool = False

    def series(self, record: Record) -> Series | None:
        """Return the curve of a run, None if it has none."""
        return record.curve(self.splits, self.metrics)


def make_panels(objective: Metric) -> list[Panel]:
    """Return the charts of a report whose runs are ranked by ``objective``, the most telling first."""
    return [
        _validation(objective),
        _panel(LOSS, "training_loss", "Training loss", "train", "worker 0's mean since the point before"),
        *([] if objective.name == LOSS.name else [_validation(LOSS, optional=True)]),
        _panel(
            find_metric("consensus_distance"),
            "consensus_distance",
            "Consensus distance",
            "all",
            "how far the workers are apart, relative to the size of their mean",
        ),
        _panel(find_metric("bytes_sent"), "bytes_sent", "Sent by worker 0", "all", "bytes sent for training"),
    ]


def curves_of(panels: Sequence[Panel]) -> tuple[tuple[str, str], ...]:
    """Return split and metric of every curve that these charts may draw."""
    pairs = [(split, metric) for panel in panels for split in panel.splits for metric in panel.metrics]
    return tuple(dict.fromkeys(pairs))


def _validation(metric: Metric, *, optional: bool = False) -> Panel:
    return Panel(
        f"validation_{metric.name}",
        f"Validation {metric.label}",
        ("val",),
        (metric.name, f"{metric.name}_local_mean"),
        "of the averaged model, else the mean over the replicas",
        scalable=metric.lower_is_better,
        optional=optional,
    )


def _panel(metric: Metric, key: str, title: str, split: str, note: str) -> Panel:
    log = metric.format is NumberFormat.scientific
    scalable = log or metric == LOSS
    return Panel(key, title, (split,), (metric.name,), note, metric.unit, log, scalable)
