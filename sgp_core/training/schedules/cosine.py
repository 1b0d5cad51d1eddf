"""Half a cosine wave from the target to (nearly) nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sgp_core.training.schedules.base import SCHEDULES
from sgp_core.training.schedules.warmup import WarmupSchedule
from sgp_core.validation import require


@SCHEDULES.register("cosine")
@dataclass(frozen=True)
class Cosine(WarmupSchedule):
    """Warm-up, then cosine decay to the end of the run (Loshchilov & Hutter 2017, equation 5, one period)."""

    final_factor: float = 0.0
    """Part of the target that is left at the end; the last step still moves, by a little more than that."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.final_factor <= 1, "schedule.final_factor", "in [0, 1]", self.final_factor)

    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        """Return the target times ``final + (1 - final) (1 + cos(pi progress)) / 2``; less during warm-up."""
        warming = self.warming(step, steps_per_epoch, world_size)
        if warming is not None:
            return warming
        start = self.warmup_length(steps_per_epoch)
        progress = min((step - start) / max(total_steps - start, 1), 1.0)
        wave = (1 + math.cos(math.pi * progress)) / 2
        return self.target(world_size) * (self.final_factor + (1 - self.final_factor) * wave)
