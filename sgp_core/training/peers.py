"""Collectives over the workers for the few numbers that the training loop agrees on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist

from sgp_core.distributed.waits import Waits
from sgp_core.training.gossiping import GossipingWorkers

T = TypeVar("T")


class WritingDuty(NamedTuple):
    """What a worker writes of a checkpoint.

    Attributes:
        ranks: the ranks whose shards it writes: its own, and those of workers that are dead.
        commits: whether it completes the checkpoint.
        abandoned: returns whether the checkpoint cannot become complete any more.
    """

    ranks: tuple[int, ...]
    commits: bool
    abandoned: Callable[[], bool] = lambda: False


class Peers:
    """The workers of the default process group; a world of one if torch.distributed is not initialised.

    Every method is a collective: all workers call it, in the same order, from the training thread.

    Attributes:
        processes: how many processes take part.
        checkpoint_rest_s: seconds between two checkpoints that are due by epochs or by the best score.
        waits: where this worker is known to wait for others; None until there is a Gossip.
        ranks: the ranks that took part in the latest collective, in the order of what :meth:`gather` returns.
    """

    def __init__(self, device: torch.device) -> None:
        self._active = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if self._active else 0
        self.world_size = dist.get_world_size() if self._active else 1
        self.processes = self.world_size
        self.checkpoint_rest_s = 0.0
        self.waits: Waits | None = None
        self.ranks = list(range(self.world_size))
        self._device = device if self._active and dist.get_backend() == "nccl" else torch.device("cpu")

    @property
    def leads(self) -> bool:
        """Whether this worker writes what one of them has to write. No collective."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the element-wise sums over all workers, in float64."""
        if not self._active:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        with self._waiting():
            dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def gather(self, value: float) -> list[float]:
        """Return every worker's value, by rank."""
        values = [0.0] * self.world_size
        values[self.rank] = value
        return self.sum(values)

    def all(self, condition: bool) -> bool:
        """Return whether the condition holds on every worker."""
        return self.sum([0.0 if condition else 1.0])[0] == 0.0

    def broadcast(self, value: T) -> T:
        """Return rank 0's value (anything picklable)."""
        if not self._active:
            return value
        box = [value]
        with self._waiting():
            dist.broadcast_object_list(box, src=0, device=self._device)
        return box[0]

    def barrier(self) -> None:
        """Return once every worker has called this."""
        self.sum([0.0])

    def _waiting(self) -> AbstractContextManager[object]:
        return nullcontext() if self.waits is None else self.waits.inside("an agreement", meet=False)

    def sum_of_parts(self, compute: Callable[[int, int], list[float]]) -> list[float]:
        """Divide something among the workers, and return the sums.

        Args:
            compute: returns the numbers of part ``i`` of ``n``.
        """
        return self.sum(compute(self.rank, self.world_size))

    def weights(self, gossip: GossipingWorkers) -> list[float]:
        """Return every worker's PushSum weight, by rank."""
        return self.gather(gossip.push_sum_weight)

    def of_replicas(self, gossip: GossipingWorkers, compute: Callable[[], list[float]]) -> list[list[float]]:
        """Return what every worker computes with its own model, by rank."""
        return [list(values) for values in zip(*map(self.gather, compute()), strict=True)]

    def writing_duty(self) -> WritingDuty:
        """Return what this worker writes of a checkpoint that all are about to save."""
        return WritingDuty((self.rank,), self.rank == 0)
