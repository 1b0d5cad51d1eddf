"""Warm-up, a constant stretch, and a decay in the last part of the run.

Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training Strategies", COLM 2024,
arXiv 2404.06395; Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", NeurIPS
2024, arXiv 2405.18392.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from sgp_core.training.schedules.base import SCHEDULES
from sgp_core.training.schedules.warmup import WarmupSchedule
from sgp_core.validation import at_least, one_of, require


class DecayShape(StrEnum):
    """How the learning rate falls in the last part of a run."""

    linear = "linear"
    """By the same amount at every step."""
    root = "1-sqrt"
    """By ``1 - sqrt(progress)``: at once, then slowly; the better one of the two in Hägele et al. 2024."""


@SCHEDULES.register("warmup_stable_decay")
@dataclass(frozen=True)
class WarmupStableDecay(WarmupSchedule):
    """Warm-up, then the target, then a decay over the last ``decay_share`` of the run.

    The constant stretch does not know how long the run is: one that is made longer begins with the same steps.
    """

    decay_share: float = 0.2
    """Share of the run's steps in which the learning rate falls."""
    decay_steps: int | None = None
    """Steps in which it falls, in the place of ``decay_share``."""
    shape: DecayShape = DecayShape.root
    """How it falls."""
    final_factor: float = 0.0
    """Part of the target that is left at the end; the last step still moves, by a little more than that."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.decay_share <= 1, "schedule.decay_share", "in [0, 1]", self.decay_share)
        at_least(0, "schedule.decay_steps", self.decay_steps)
        one_of(DecayShape, "schedule.shape", self.shape)
        require(0 <= self.final_factor <= 1, "schedule.final_factor", "in [0, 1]", self.final_factor)

    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        """Return the target times ``final + (1 - final) fall(progress)``, where progress in the decay goes from 0 to 1.

        ``fall`` is ``1 - progress``, or ``1 - sqrt(progress)`` (Hägele et al. 2024, section 3). Decay begins once
        warm-up is over, even if that leaves less time than asked for.
        """
        warming = self.warming(step, steps_per_epoch, world_size)
        if warming is not None:
            return warming
        length = self.decay_share * total_steps if self.decay_steps is None else self.decay_steps
        start = max(total_steps - length, self.warmup_length(steps_per_epoch))
        progress = min(max(step - start, 0.0) / max(total_steps - start, 1.0), 1.0)
        fall = 1 - (progress if self.shape == DecayShape.linear else math.sqrt(progress))
        return self.target(world_size) * (self.final_factor + (1 - self.final_factor) * fall)
