"""The horizontal axes that curves can be drawn over."""

from __future__ import annotations

from enum import StrEnum

from sgp_core.metrics import Metric, find_metric


class Axis(StrEnum):
    """A horizontal axis, by its name on the command line."""

    step = "step"
    """Optimizer steps."""
    epoch = "epoch"
    """Passes over the training set."""
    time = "time"
    """Seconds of training."""
    virtual = "virtual"
    """Seconds on the virtual clock."""

    @property
    def metric(self) -> Metric:
        """The metric that says where on the axis a row belongs."""
        return find_metric(_METRICS.get(self, self.value))

    @property
    def heading(self) -> str:
        """What charts call the axis."""
        return self.metric.label.capitalize()

    @property
    def in_seconds(self) -> bool:
        """Whether it is read in seconds, minutes or hours."""
        return self.metric.unit == "s"

    @property
    def optional(self) -> bool:
        """Whether it is offered only where a run has a place on it."""
        return self is Axis.virtual


_METRICS = {Axis.time: "wall_time_s", Axis.virtual: "virtual_time_s"}
"""Names of metrics, of axes that are called otherwise."""
