"""Language modelling: what is known of the task before its data are loaded."""

from __future__ import annotations

from typing import ClassVar

from sgp_core.metrics import LOSS, Direction, Metric
from sgp_core.tasks.kinds import TaskKind, register_task

TASK = "language_modelling"


@register_task(TASK)
class LanguageModellingKind(TaskKind):
    """Text, of which each token is predicted from those before it.

    Bits per byte rank runs: unlike the loss per token, they are comparable across tokenizers.
    """

    metrics: ClassVar = (
        LOSS,
        Metric("perplexity", Direction.minimize),
        Metric("bits_per_byte", Direction.minimize, "bit"),
    )
    score: ClassVar = "bits_per_byte"
    unit: ClassVar = "tokens"
    does: ClassVar = "predicts the next token of a text"
    holds: ClassVar = "text to predict"
