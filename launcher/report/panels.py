"""Which curves a report has. Page and figures draw the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.report.record import Record
from launcher.report.series import Series
from launcher.runs.metric_rows import lower_is_better


@dataclass(frozen=True)
class Panel:
    """One chart of curves."""

    key: str
    title: str
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    """The first of these that a run has measured is drawn."""
    note: str
    unit: str = ""
    log: bool = False
    """Whether the scale is logarithmic at first."""
    scalable: bool = False
    """Whether the reader may change that."""

    def series(self, record: Record) -> Series | None:
        """Return the curve of a run, None if it has none."""
        return record.curve(self.splits, self.metrics)


def panels(metric: str) -> list[Panel]:
    """Return the charts of a report on a validation score."""
    score, loss_like = metric_names(metric), lower_is_better(metric)
    return [
        Panel(
            "training_loss",
            "Training loss",
            ("train",),
            ("loss",),
            "worker 0's mean since the point before",
            log=False,
            scalable=True,
        ),
        Panel(
            f"validation_{metric}",
            f"Validation {readable(metric)}",
            ("val",),
            score,
            "of the averaged model, else the mean over the replicas",
            scalable=loss_like,
        ),
        Panel(
            "consensus_distance",
            "Consensus distance",
            ("all",),
            ("consensus_distance",),
            "how far the workers are apart, relative to the size of their mean",
            log=True,
            scalable=True,
        ),
        Panel("bytes_sent", "Sent by worker 0", ("all",), ("bytes_sent",), "bytes sent for training", unit="bytes"),
    ]


def metric_names(metric: str) -> tuple[str, ...]:
    """Return where to look for a score: runs that evaluate replicas only have it under another name."""
    return (metric, f"{metric}_local_mean")


def curves_of(charts: Sequence[Panel]) -> tuple[tuple[str, str], ...]:
    """Return split and metric of all that these charts may draw."""
    pairs = [(split, metric) for chart in charts for split in chart.splits for metric in chart.metrics]
    return tuple(dict.fromkeys(pairs))


def readable(metric: str) -> str:
    """Return a metric's name as words."""
    return metric.replace("_", " ")
