"""The batches of all virtual workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sgp_core.tasks.base import Batch


@dataclass(frozen=True)
class WorkersBatch:
    """One step's batch of every worker, by rank. Its length and count are those of rank 0's, as rows of metrics say."""

    batches: Sequence[Batch]

    def __len__(self) -> int:
        return len(self.batches[0])

    @property
    def count(self) -> int:
        """Number of targets of rank 0's batch."""
        return self.batches[0].count

    def to(self, device: torch.device, *, channels_last: bool = False) -> WorkersBatch:
        """Return the batches on a device."""
        if device.type == "cpu" and not channels_last:
            return self
        return WorkersBatch([batch.to(device, channels_last=channels_last) for batch in self.batches])


class WorkersBatches:
    """Callable that returns the batches of a step: each worker's are those that it would make as a process."""

    def __init__(self, makers: Sequence[Callable[[int], Batch]]) -> None:
        self._makers = makers

    def __call__(self, step: int) -> WorkersBatch:
        return WorkersBatch([make(step) for make in self._makers])
