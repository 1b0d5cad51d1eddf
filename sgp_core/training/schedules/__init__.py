"""Learning rate schedules by name: pure functions of the step. Importing them does not import torch."""

from sgp_core.training.schedules.base import SCHEDULES, LearningRateSchedule

__all__ = ["SCHEDULES", "LearningRateSchedule"]
