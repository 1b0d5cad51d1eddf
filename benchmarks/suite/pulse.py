"""A plug-in for ``sgp-train``: every worker notes the time of each of its steps, and the mass that it accounts for."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from sgp_core.training.callbacks import CALLBACKS, Callback, TrainingProgress


@CALLBACKS.register("pulse")
@dataclass
class Pulse(Callback):
    """Appends a line ``[time, step]`` to ``FOLDER/pulse-RANK-PROCESS.jsonl`` after each step.

    An elastic worker also keeps ``FOLDER/ledger-RANK-PROCESS.json``, as of the last step for which it was written: its
    PushSum ``weight``, that with which it ``began``, and for each process that was its peer ``[rank, life, given,
    taken]``.
    """

    folder: str = "."
    """Where to write."""
    ledger_every: int = 10
    """Steps between two accounts of the mass."""

    def on_start(self, progress: TrainingProgress) -> None:
        """Open this process's file."""
        self._name = f"{progress.rank}-{os.getpid()}"
        path = Path(self.folder, f"pulse-{self._name}.jsonl")
        self._began = float(progress.gossip.push_sum_weight)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def after_step(self, progress: TrainingProgress) -> None:
        """Note the time."""
        os.write(self._file, f"[{time.time():.6f}, {progress.step}]\n".encode())
        if progress.step % self.ledger_every == 0:
            self._account(progress)

    def on_end(self, progress: TrainingProgress) -> None:
        """Account for the mass at the end."""
        self._account(progress)

    def _account(self, progress: TrainingProgress) -> None:
        gossip = progress.gossip
        if gossip.member is None:
            return
        account = {
            "member": list(gossip.member),
            "step": progress.step,
            "began": self._began,
            "weight": float(gossip.push_sum_weight),
            "peers": [[*peer, *amounts] for peer, amounts in gossip.ledger.items()],
        }
        path = Path(self.folder, f"ledger-{self._name}.json")
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(account))
        scratch.replace(path)
