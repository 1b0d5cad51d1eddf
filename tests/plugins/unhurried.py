"""A callback for runs that a test interrupts: a signal takes its time, and the run must not end before it comes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sgp_core.training.callbacks.base import CALLBACKS, Callback, TrainingProgress


@CALLBACKS.register("unhurried")
@dataclass
class Unhurried(Callback):
    """Rests after every step, which takes no core."""

    seconds: float = 0.003

    def after_step(self, progress: TrainingProgress) -> None:
        """Rest."""
        time.sleep(self.seconds)
