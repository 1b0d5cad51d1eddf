"""The facts about every metric: its name in ``metrics.jsonl``, unit, direction, format, and name on a dashboard.

The metrics of all runs are declared here, the scores of a task by the task. A run records its task's scores, so that
tables and reports can show them without the code of the task. Imports without torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Direction(StrEnum):
    """Whether high or low values of a metric are better."""

    maximize = "maximize"
    minimize = "minimize"


class NumberFormat(StrEnum):
    """How people read a metric."""

    plain = "plain"
    """Few digits: 0.9689, 34.95."""
    scientific = "scientific"
    """For a quantity that spans many orders of magnitude: 6.1e-3."""
    whole = "whole"
    milliseconds = "milliseconds"
    seconds = "seconds"
    bytes = "bytes"


@dataclass(frozen=True)
class Metric:
    """The facts about a number that runs measure.

    Attributes:
        name: its key in ``metrics.jsonl``.
        direction: whether high or low values are better; None if neither is.
        unit: such as ``"ms"``; empty for plain numbers.
        format: how its values are printed.
        label: its name in charts and tables; by default ``name`` with spaces.
        dashboard: its name in Weights & Biases; None: ``train/<name>`` or ``val/<name>``, by the row's split.
        windowed: whether it is a mean since the row before. Those of a validation row are over another window, so
            they do not join the curves of training on a dashboard.
    """

    name: str
    direction: Direction | None = None
    unit: str = ""
    format: NumberFormat = NumberFormat.plain
    label: str = ""
    dashboard: str | None = None
    windowed: bool = False

    def __post_init__(self) -> None:
        if self.direction is not None:
            object.__setattr__(self, "direction", Direction(self.direction))
        object.__setattr__(self, "format", NumberFormat(self.format))
        if not self.label:
            object.__setattr__(self, "label", self.name.replace("_", " "))

    @property
    def lower_is_better(self) -> bool:
        """Whether low values are better."""
        return self.direction is Direction.minimize

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; ``Metric(**data)`` is an equal metric."""
        return {key: str(value) if isinstance(value, StrEnum) else value for key, value in vars(self).items()}


LOSS = Metric("loss", Direction.minimize)

RUN_METRICS = (
    LOSS,
    Metric("step", format=NumberFormat.whole, dashboard="step"),
    Metric("epoch", dashboard="epoch"),
    Metric("wall_time_s", Direction.minimize, "s", NumberFormat.seconds, "time", "time/wall_s"),
    Metric("virtual_time_s", Direction.minimize, "s", NumberFormat.seconds, "virtual time", "time/virtual_s"),
    Metric("lr", label="learning rate", dashboard="train/lr", windowed=True),
    Metric(
        "samples_per_s",
        Direction.maximize,
        "1/s",
        NumberFormat.whole,
        "samples per second",
        "time/samples_per_s",
        windowed=True,
    ),
    Metric(
        "tokens_per_s",
        Direction.maximize,
        "1/s",
        NumberFormat.whole,
        "tokens per second",
        "time/tokens_per_s",
        windowed=True,
    ),
    Metric(
        "mfu",
        Direction.maximize,
        label="model FLOP utilisation",
        dashboard="time/mfu",
        windowed=True,
    ),
    Metric(
        "step_time_ms", Direction.minimize, "ms", NumberFormat.milliseconds, "step time", "time/step_ms", windowed=True
    ),
    Metric(
        "data_time_ms", Direction.minimize, "ms", NumberFormat.milliseconds, "data time", "time/data_ms", windowed=True
    ),
    Metric(
        "compute_time_ms",
        Direction.minimize,
        "ms",
        NumberFormat.milliseconds,
        "compute time",
        "time/compute_ms",
        windowed=True,
    ),
    Metric(
        "comm_time_ms",
        Direction.minimize,
        "ms",
        NumberFormat.milliseconds,
        "communication",
        "time/comm_ms",
        windowed=True,
    ),
    Metric("bytes_sent", Direction.minimize, "bytes", NumberFormat.bytes, "sent", "gossip/bytes_sent"),
    Metric(
        "peak_step_bytes",
        Direction.minimize,
        "bytes",
        NumberFormat.bytes,
        "most sent in a step",
        "gossip/peak_step_bytes",
        windowed=True,
    ),
    Metric(
        "consensus_distance",
        Direction.minimize,
        format=NumberFormat.scientific,
        dashboard="gossip/consensus_distance",
    ),
    Metric("push_sum_weight_min", format=NumberFormat.scientific, dashboard="gossip/push_sum_weight_min"),
    Metric("push_sum_weight_max", format=NumberFormat.scientific, dashboard="gossip/push_sum_weight_max"),
    Metric("staleness_mean", unit="steps", label="mean staleness", dashboard="gossip/staleness_mean"),
    Metric("staleness_max", unit="steps", label="greatest staleness", dashboard="gossip/staleness_max"),
    Metric("world_size", format=NumberFormat.whole, label="workers", dashboard="system/world_size"),
)
"""The metrics that every run measures, whatever its task."""

_BY_NAME = {metric.name: metric for metric in RUN_METRICS}
_SUFFIXES = ("_local_mean", "_local_min", "_local_max")
"""Suffixes of a score of the workers' own replicas: its mean, lowest and highest value."""


def find_metric(name: str, scores: Iterable[Metric] = ()) -> Metric:
    """Return the metric ``name``; if it is unknown, one without further facts.

    ``<score>_local_mean``, ``_local_min`` and ``_local_max`` have the facts of ``<score>``.

    Args:
        scores: metrics of the task, beside :data:`RUN_METRICS`.
    """
    known = _BY_NAME | {metric.name: metric for metric in scores}
    if name in known:
        return known[name]
    for suffix in _SUFFIXES:
        base = known.get(name.removesuffix(suffix))
        if name.endswith(suffix) and base is not None:
            return dataclasses.replace(base, name=name, label=f"{base.label}{suffix.replace('_', ' ')}")
    return Metric(name)


def read_metrics(recorded: Iterable[Mapping[str, Any]]) -> list[Metric]:
    """Return the metrics that :meth:`Metric.to_dict` has recorded; entries that cannot be read are left out."""
    known = {field.name for field in dataclasses.fields(Metric)}
    found = []
    for facts in recorded:
        if not all(isinstance(facts.get(key, ""), str) for key in ("name", "unit", "label")):
            continue
        try:
            found.append(Metric(**{key: value for key, value in facts.items() if key in known}))
        except (TypeError, ValueError):
            continue
    return found
