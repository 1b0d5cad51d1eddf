"""Regression: what is known of the task before its data are loaded."""

from typing import ClassVar

from sgp_core.metrics import LOSS, Direction, Metric
from sgp_core.tasks.kinds import TaskKind, register_task

TASK = "regression"


@register_task(TASK)
class RegressionKind(TaskKind):
    """Examples that are vectors of numbers, each with a number to predict."""

    metrics: ClassVar = (LOSS, Metric("r2", Direction.maximize, label="R²"))
    score: ClassVar = "r2"
    does: ClassVar = "predicts a number"
    holds: ClassVar = "numbers to predict"
