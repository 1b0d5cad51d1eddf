"""Translation: what is known of the task before its data are loaded."""

from __future__ import annotations

from typing import ClassVar

from sgp_core.metrics import LOSS, Direction, Metric
from sgp_core.tasks.kinds import TaskKind, register_task

TASK = "translation"


@register_task(TASK)
class TranslationKind(TaskKind):
    """Sentences in one language, each with its translation."""

    metrics: ClassVar = (
        LOSS,
        Metric("perplexity", Direction.minimize),
        Metric("bleu", Direction.maximize, label="BLEU"),
    )
    score: ClassVar = "loss"
    unit: ClassVar = "tokens"
    does: ClassVar = "translates text"
    holds: ClassVar = "text to translate"
