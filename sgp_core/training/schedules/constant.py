"""The base learning rate, unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.training.schedules.base import SCHEDULES, LearningRateSchedule


@SCHEDULES.register("constant")
@dataclass(frozen=True)
class Constant(LearningRateSchedule):
    """The same learning rate from the first step to the last."""

    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        """Return 1."""
        return 1.0
