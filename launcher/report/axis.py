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

    @property
    def metric(self) -> Metric:
        """The metric that says where on the axis a row belongs."""
        return find_metric("wall_time_s" if self is Axis.time else self.value)

    @property
    def heading(self) -> str:
        """What charts call the axis."""
        return self.metric.label.capitalize()
