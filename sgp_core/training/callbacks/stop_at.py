"""Stop at a score: for comparing how long it takes to get there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sgp_core.training.callbacks.base import CALLBACKS, Callback, TrainingProgress


@CALLBACKS.register("stop_at")
@dataclass
class StopAt(Callback):
    """Ends training at the first evaluation with a given score, or a better one.

    Scores are the same on every worker, so all workers decide alike.
    """

    score: float
    """The task's score, such as an accuracy or a loss, at which training ends."""

    def on_evaluation(self, progress: TrainingProgress, scores: Mapping[str, Any]) -> None:
        """Compare the score with the one that was asked for."""
        rank, wanted = progress.kind.rank(scores), progress.kind.rank({progress.kind.score: self.score})
        if rank is not None and wanted is not None and rank >= wanted:
            progress.request_stop()
