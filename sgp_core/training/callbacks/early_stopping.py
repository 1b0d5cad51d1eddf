"""Early stopping: train no longer than it helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sgp_core.training.callbacks.base import CALLBACKS, Callback, TrainingProgress
from sgp_core.validation import at_least, not_negative


@CALLBACKS.register("early_stopping")
@dataclass
class EarlyStopping(Callback):
    """Ends training when the task's score has not improved for ``patience`` evaluations in a row.

    Scores are the same on every worker, so all workers decide alike.
    """

    patience: int = 3
    """Evaluations in a row without improvement after which training ends."""
    min_delta: float = 0.0
    """By how much a score must be better than the best so far to count as an improvement."""

    def __post_init__(self) -> None:
        at_least(1, "callback.patience", self.patience)
        not_negative("callback.min_delta", self.min_delta)
        self._best: float | None = None
        self._without_improvement = 0

    def on_evaluation(self, progress: TrainingProgress, scores: Mapping[str, Any]) -> None:
        """Compare the score with the best so far."""
        rank = progress.kind.rank(scores)
        if rank is None:
            return
        if self._best is None or rank > self._best + self.min_delta:
            self._best, self._without_improvement = rank, 0
            return
        self._without_improvement += 1
        if self._without_improvement >= self.patience:
            progress.request_stop()

    def state(self) -> dict[str, Any]:
        """Return the best score so far and for how long it has been the best."""
        return {"best": self._best, "without_improvement": self._without_improvement}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self._best, self._without_improvement = state["best"], state["without_improvement"]
