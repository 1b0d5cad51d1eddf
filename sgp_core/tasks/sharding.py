"""Which examples a worker trains on in an epoch. Every worker computes this without communication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, overload

from sgp_core.errors import ConfigurationError
from sgp_core.validation import at_least, require

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sgp_core.tasks.base import BatchSampler, Task
    from sgp_core.tasks.partitions import Partition


@dataclass(frozen=True)
class ExampleSampler:
    """The examples, out of ``num_examples``, that ``rank`` of ``world_size`` workers trains on.

    Every epoch has a new order. Without ``own`` the workers also divide the examples anew in every epoch; with it, a
    worker keeps these examples. In every epoch all workers together see every example exactly once, all make the same
    number of steps, and no batch is empty. Batches hold ``batch_size`` examples, except that what is left for the last
    two steps is halved: a last batch of one or two examples would make a whole optimizer step out of noise. (With
    ``batch_size`` 1 and examples that do not divide evenly, those last batches hold up to two.)

    Raises:
        ConfigurationError: fewer examples than workers, or a number out of range.
    """

    num_examples: int
    world_size: int
    rank: int
    batch_size: int
    seed: int = 0
    own: np.ndarray | None = field(default=None, repr=False, compare=False)
    """The worker's examples, out of :meth:`sgp_core.tasks.partitions.Assigned.assign`."""

    def __post_init__(self) -> None:
        at_least(1, "batch_size", self.batch_size)
        at_least(0, "seed", self.seed)
        require(0 <= self.rank < self.world_size, "rank", f"in 0..{self.world_size - 1}", self.rank)
        if self.num_examples < self.world_size:
            raise ConfigurationError(
                f"{self.num_examples} training examples cannot be shared by {self.world_size} workers: "
                f"use at most {max(self.num_examples, 1)} workers or more data"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch, the same on every rank."""
        steps = -(-self.num_examples // (self.world_size * self.batch_size))
        smallest_share = self.num_examples // self.world_size
        return min(steps, smallest_share)

    def indices(self, epoch: int) -> Sequence[Tensor]:
        """Return this rank's batches of ``epoch``: int64 index tensors, ``steps_per_epoch`` of them."""
        import numpy as np
        import torch

        order = _order(self.num_examples, self.seed, epoch)
        dealt = order[self.rank :: self.world_size] if self.own is None else order[np.isin(order, self.own)]
        own = torch.from_numpy(dealt.astype(np.int64))
        return _Batches(own, self.batch_size, self.steps_per_epoch)


class _Batches(Sequence["Tensor"]):
    """Examples cut into batches when they are asked for: a tensor for each of a million would take 600 bytes.

    Args:
        examples: int64 ``[N]``.
        batch_size: of all but the last two batches, which share what is left.
        steps: number of batches.
    """

    def __init__(self, examples: Tensor, batch_size: int, steps: int) -> None:
        full = max(steps - 2, 0)
        self._examples, self._batch_size, self._full = examples, batch_size, full
        self._last = examples[full * batch_size :].tensor_split(steps - full)

    def __len__(self) -> int:
        return self._full + len(self._last)

    @overload
    def __getitem__(self, place: int) -> Tensor: ...

    @overload
    def __getitem__(self, place: slice) -> list[Tensor]: ...

    def __getitem__(self, place: int | slice) -> Tensor | list[Tensor]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        if number >= self._full:
            return self._last[number - self._full]
        return self._examples[number * self._batch_size : (number + 1) * self._batch_size]


@lru_cache(maxsize=2)
def _order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch, the same for all workers, which virtual ones of one process form once."""
    import numpy as np

    return np.random.default_rng([seed, epoch]).permutation(num_examples)


def build_sampler(
    task: Task, partition: Partition, world_size: int, rank: int, batch_size: int, seed: int
) -> BatchSampler:
    """Return the batches that ``rank`` trains on: the task's own, or those of the examples that the partition assigns.

    Raises:
        ConfigurationError: too few examples for so many workers.
    """
    return build_samplers(task, partition, world_size, [rank], batch_size, seed)[0]


def build_samplers(
    task: Task, partition: Partition, world_size: int, ranks: Sequence[int], batch_size: int, seed: int
) -> list[BatchSampler]:
    """Return :func:`build_sampler` of each of ``ranks``; examples are assigned once for all of them."""
    from sgp_core.tasks.partitions import Assigned

    if not isinstance(partition, Assigned):
        return [task.sampler(world_size, rank, batch_size, seed) for rank in ranks]
    assert task.labels is not None, "refused by check_labels"
    owns, size = partition.assign(task.labels.numpy(), world_size, seed), len(task.labels)
    return [ExampleSampler(size, world_size, rank, batch_size, seed, owns[rank]) for rank in ranks]
