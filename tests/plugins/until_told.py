"""A callback for runs that a test wants to last as long as it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgp_core.training.callbacks.base import CALLBACKS, Callback, TrainingProgress


@CALLBACKS.register("until_told")
@dataclass
class UntilTold(Callback):
    """Ends training at the first evaluation at which a file is there."""

    file: str = ""

    def on_evaluation(self, progress: TrainingProgress, scores: Mapping[str, Any]) -> None:
        """Look for the file."""
        if Path(self.file).exists():
            progress.request_stop()
