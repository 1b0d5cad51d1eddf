"""The linear scaling rule and gradual warm-up of Goyal et al. 2017."""

from __future__ import annotations

from dataclasses import dataclass, field

from sgp_core.errors import ConfigurationError
from sgp_core.registry import LATER
from sgp_core.training.schedules.base import LearningRateSchedule
from sgp_core.validation import at_least, not_negative, require


@dataclass(frozen=True)
class WarmupSchedule(LearningRateSchedule):
    """Rises linearly to the target learning rate, step by step; what follows is up to the subclass."""

    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises to its target."""
    warmup_start: float | None = None
    """Factor on the base learning rate at the first step; null: 1 with scale_with_workers, else 0.1."""
    scale_with_workers: bool = False
    """The target is the base learning rate times the number of workers: k workers take k times larger batches."""
    warmup_steps: int | None = field(default=None, kw_only=True, metadata=LATER)
    """Steps over which it rises, in the place of ``warmup_epochs``."""

    def __post_init__(self) -> None:
        not_negative("schedule.warmup_epochs", self.warmup_epochs)
        at_least(0, "schedule.warmup_steps", self.warmup_steps)
        if self.warmup_epochs and self.warmup_steps is not None:
            raise ConfigurationError(
                f"schedule.warmup_epochs={self.warmup_epochs} and schedule.warmup_steps={self.warmup_steps} both say"
                " how long warm-up takes; give one of them"
            )
        if self.warmup_start is not None:
            require(self.warmup_start >= 0, "schedule.warmup_start", "zero or more, or null", self.warmup_start)

    def target(self, world_size: int) -> float:
        """Return the factor that warm-up ends at."""
        return float(world_size) if self.scale_with_workers else 1.0

    def warmup_length(self, steps_per_epoch: int) -> float:
        """Return the number of steps that warm-up takes."""
        return self.warmup_epochs * steps_per_epoch if self.warmup_steps is None else self.warmup_steps

    def warming(self, step: int, steps_per_epoch: int, world_size: int) -> float | None:
        """Return the factor at ``step``, or None if warm-up is over."""
        steps = self.warmup_length(steps_per_epoch)
        if step >= steps:
            return None
        start = self.warmup_start
        if start is None:
            start = 1.0 if self.scale_with_workers else 0.1
        return start + (self.target(world_size) - start) * step / steps
