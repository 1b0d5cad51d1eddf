"""Image classification: what is known of the task before its data are loaded."""

from __future__ import annotations

from typing import ClassVar

from sgp_core.metrics import LOSS, Direction, Metric
from sgp_core.tasks.kinds import TaskKind, register_task

TASK = "images"


@register_task(TASK)
class ImagesKind(TaskKind):
    """Images, each of one class."""

    metrics: ClassVar = (
        LOSS,
        Metric("accuracy", Direction.maximize),
        Metric("top5_accuracy", Direction.maximize, label="top-5 accuracy"),
    )
    score: ClassVar = "accuracy"
    does: ClassVar = "classifies images"
    holds: ClassVar = "images to classify"
