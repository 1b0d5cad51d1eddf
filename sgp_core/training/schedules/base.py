"""Learning rate schedules: a factor on the base learning rate, computed from the step alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sgp_core.registry import Registry

SCHEDULES: Registry[LearningRateSchedule] = Registry("schedule", "sgp_core.training.schedules")
"""Every schedule by name. A new one is one file in this package."""


@dataclass(frozen=True)
class LearningRateSchedule(ABC):
    """A learning rate as a pure function of the step: there is no state to save or to resume.

    Stable extension point.
    """

    @classmethod
    def resolve_choice(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``{"name": ..., options...}`` with a registered name, as that of an optimizer does."""
        return dict(values)

    def with_rate(self, rate: float) -> LearningRateSchedule:
        """Return the schedule for a base learning rate, where it is not the same for all."""
        return self

    @abstractmethod
    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        """Return what the base learning rate is multiplied by.

        Args:
            step: optimizer steps completed before this one, from 0.
            steps_per_epoch: optimizer steps in an epoch.
            total_steps: optimizer steps in the whole run.
            world_size: number of workers that train together.
        """
