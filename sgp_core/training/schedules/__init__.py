"""Learning rate schedules by name: pure functions of the step. Importing them does not import torch."""

from sgp_core.training.schedules.base import SCHEDULES, Schedule

__all__ = ["SCHEDULES", "Schedule"]
