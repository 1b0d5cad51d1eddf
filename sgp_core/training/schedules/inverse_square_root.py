"""The schedule of the Transformer."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.training.schedules.base import SCHEDULES, LearningRateSchedule
from sgp_core.validation import at_least, not_negative


@SCHEDULES.register("inverse_square_root")
@dataclass(frozen=True)
class InverseSquareRoot(LearningRateSchedule):
    """Linear warm-up, then ``sqrt(warmup_steps / step)`` (Vaswani et al. 2017).

    The base learning rate is the highest, reached after ``warmup_steps``.
    """

    warmup_steps: int = 4000
    """Steps over which the learning rate rises to its base value."""
    warmup_start: float = 0.0002
    """Factor on the base learning rate at the first step (1e-7 for a base of 5e-4)."""

    def __post_init__(self) -> None:
        at_least(1, "schedule.warmup_steps", self.warmup_steps)
        not_negative("schedule.warmup_start", self.warmup_start)

    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        """Return a factor that depends on ``step`` alone."""
        if step < self.warmup_steps:
            return self.warmup_start + (1 - self.warmup_start) * step / self.warmup_steps
        return float((self.warmup_steps / step) ** 0.5)
