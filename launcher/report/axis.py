"""What curves are drawn over."""

from __future__ import annotations

from enum import StrEnum


class Axis(StrEnum):
    """The horizontal axis."""

    step = "step"
    """Optimizer steps."""
    epoch = "epoch"
    """Passes over the training set."""
    time = "time"
    """Seconds of training."""
