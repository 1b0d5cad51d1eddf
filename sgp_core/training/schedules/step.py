"""Decay by a factor at given epochs, the classic ImageNet schedule."""

from __future__ import annotations

from dataclasses import dataclass, field

from sgp_core.training.schedules.base import SCHEDULES
from sgp_core.training.schedules.warmup import WarmupSchedule
from sgp_core.validation import require


@SCHEDULES.register("step")
@dataclass(frozen=True)
class Step(WarmupSchedule):
    """Warm-up, then a tenth less at epochs 30, 60 and 80 (Goyal et al. 2017; also the ImageNet runs of SGP)."""

    decay_epochs: list[float] = field(default_factory=lambda: [30.0, 60.0, 80.0])
    """Epochs at whose start the learning rate drops."""
    decay: float = 0.1
    """What it is multiplied by at each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.decay <= 1, "schedule.decay", "above 0 and at most 1", self.decay)
        rising = list(self.decay_epochs) == sorted(set(self.decay_epochs)) and min(self.decay_epochs, default=1) > 0
        require(rising, "schedule.decay_epochs", "positive and rising", list(self.decay_epochs))

    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        """Return the target times ``decay`` to the number of decay epochs reached; less during warm-up."""
        warming = self.warming(step, steps_per_epoch, world_size)
        if warming is not None:
            return warming
        drops = sum(step >= epoch * steps_per_epoch for epoch in self.decay_epochs)
        return self.target(world_size) * self.decay**drops
