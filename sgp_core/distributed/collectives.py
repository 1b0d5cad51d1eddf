"""Collectives of one process group; in a world of one, without torch.distributed, each of them is the identity."""

from __future__ import annotations

import atexit
import functools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

from sgp_core.errors import PeerLost
from sgp_core.tensors.flat_vector import FlatVector, as_operand


class Collectives:
    """Collectives among the workers of one process group.

    Args:
        group: the process group, None for the default one; without torch.distributed, a world of one.

    Attributes:
        rank: this worker's rank in the group.
        size: number of workers in the group.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        started = dist.is_initialized()
        self.rank = dist.get_rank(group) if started else 0
        self.size = dist.get_world_size(group) if started else 1
        if started:
            _outlive_collectives()

    def global_rank(self, rank: int) -> int:
        """Return the rank in the default group of the worker that has ``rank`` in this one."""
        return rank if self.group is None else dist.get_global_rank(self.group, rank)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Set every worker's tensors to those of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=self.global_rank(0), group=self.group)

    def total(self, values: Tensor) -> Tensor:
        """Sum a small tensor over all workers, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    def maximum(self, values: Tensor) -> Tensor:
        """Set each element of a small tensor to its maximum over all workers, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.group)
        return values

    def mean(self, x: FlatVector) -> None:
        """Replace ``x``, and what travels with it, by the average over all workers, in place.

        Raises:
            PeerLost: another worker is gone or does not answer in time.
        """
        self.begin_mean(x).wait()

    def begin_mean(self, x: FlatVector) -> PendingMean:
        """Begin to do so; ``x`` is not to be touched until what is returned has been waited for."""
        if self.size == 1:
            return PendingMean(x, [], self)
        return PendingMean(x, [dist.all_reduce(each, group=self.group, async_op=True) for each in x.wire], self)


class PendingMean:
    """An average under way.

    Args:
        x: the vector, which becomes the average.
        works: that sum what is sent of it; none in a world of one.
        workers: that take part.
    """

    def __init__(self, x: FlatVector, works: Sequence[Any], workers: Collectives) -> None:
        self._x, self._works, self._workers = x, works, workers

    def wait(self) -> None:
        """Return once the vector is the average. Once only.

        Raises:
            PeerLost: another worker is gone or does not answer in time.
        """
        try:
            for work in self._works:
                work.wait()
        except RuntimeError as error:
            rank = self._workers.global_rank(self._workers.rank)
            raise PeerLost(f"rank {rank} lost another worker while averaging: {error}", rank=rank) from error
        if self._works:
            for tensor in self._x.wire:
                tensor.div_(as_operand(self._workers.size, tensor))


@functools.cache
def _outlive_collectives() -> None:
    """Keep the interpreter for a moment at its end, until gloo's threads have dropped the last collective's tensors.

    They need the interpreter's lock for that: a thread that asks for it later takes the process down (SIGABRT).
    """
    atexit.register(time.sleep, 0.05)
