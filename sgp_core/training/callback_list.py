"""The callbacks of one worker: calls them in order, and lets all workers agree on a stop that one of them requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sgp_core.training.callbacks import Callback, TrainingProgress
from sgp_core.training.peers import Peers


class CallbackList:
    """Calls ``callbacks`` in their order."""

    def __init__(self, callbacks: Sequence[Callback], progress: TrainingProgress, peers: Peers) -> None:
        self._callbacks = callbacks
        self._progress = progress
        self._peers = peers
        self.stopped = False
        """Whether the workers have agreed to end training."""

    def start(self, step: int) -> None:
        """Training begins, or goes on after ``step`` steps."""
        self._progress.step = step
        for callback in self._callbacks:
            callback.on_start(self._progress)

    def after_step(self, step: int) -> None:
        """``step`` optimizer steps are complete."""
        self._progress.step = step
        for callback in self._callbacks:
            callback.after_step(self._progress)

    def evaluation(self, scores: Mapping[str, Any]) -> bool:
        """Pass the scores on; return whether any worker's callback requested a stop. Collective if there are any."""
        if not self._callbacks:
            return False
        for callback in self._callbacks:
            callback.on_evaluation(self._progress, scores)
        self.stopped = not self._peers.all(not self._progress.stop_requested)
        return self.stopped

    def end(self) -> None:
        """Training is complete."""
        for callback in self._callbacks:
            callback.on_end(self._progress)

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"stopped": self.stopped, "callbacks": [callback.state() for callback in self._callbacks]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.stopped = state["stopped"]
        for callback, saved in zip(self._callbacks, state["callbacks"], strict=True):
            callback.load_state(saved)
