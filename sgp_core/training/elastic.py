"""What an elastic run has in place of fixed workers: collectives of the living, and data dealt anew to them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from sgp_core.elastic import ElasticGroup
from sgp_core.errors import PeerLost
from sgp_core.tasks.base import BatchSampler
from sgp_core.training.peers import Peers, WritingDuty

T = TypeVar("T")

_ANOTHER_ORDER = 1_000_003
"""Added to a seed, it makes another order of the examples."""


class ElasticPeers(Peers):
    """The living members of an elastic group. All get the same from a collective, whoever dies in the middle of it."""

    def __init__(self, group: ElasticGroup) -> None:
        super().__init__(torch.device("cpu"))
        self.rank, self.world_size = group.rank, group.world_size
        self.processes = group.world_size
        self._group = group
        self.ranks = list(range(group.world_size))

    @property
    def leads(self) -> bool:
        """Whether this is the lowest living rank."""
        return self._group.coordinator

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the element-wise sums over the living workers."""
        rows = self._group.gather(values)
        self.ranks = list(rows)
        return [sum(column) for column in zip(*rows.values(), strict=True)]

    def gather(self, value: float) -> list[float]:
        """Return every living worker's value, by rank."""
        rows = self._group.gather([value])
        self.ranks = list(rows)
        return [row[0] for row in rows.values()]

    def broadcast(self, value: T) -> T:
        """Return what the lowest living rank has (anything picklable; members have shown that they know the secret)."""
        rows = self._group.gather(list(pickle.dumps(value)) if self.leads else [])
        data = next((row for row in rows.values() if row), None)
        if data is None:
            raise PeerLost("the worker that was to tell all others is gone", rank=self.rank)
        told: T = pickle.loads(bytes(map(int, data)))
        return told

    def writing_duty(self) -> WritingDuty:
        """Return what this worker writes: the lowest rank writes for those that are dead, as if they were like it."""
        ranks = sorted(self._group.gather([]))
        missing = [rank for rank in range(self.world_size) if rank not in ranks]
        first = ranks[0] == self.rank
        mine = (self.rank, *missing) if first else (self.rank,)
        return WritingDuty(mine, first, lambda: not set(ranks) <= set(self._group.members))

    def sum_of_parts(self, compute: Callable[[int, int], list[float]]) -> list[float]:
        """Divide something among the living workers and return its sum; again if one dies meanwhile."""
        while True:
            ranks = sorted(self._group.gather([]))
            rows = self._group.gather(compute(ranks.index(self.rank), len(ranks)))
            if sorted(rows) == ranks:
                self.ranks = ranks
                return [sum(column) for column in zip(*rows.values(), strict=True)]


@dataclass(frozen=True)
class _Deal:
    """Which examples a worker trains on: the share ``place`` of ``workers``, in the order of ``seed``."""

    workers: int
    place: int
    seed: int


class ElasticSampler:
    """The batches of one member, in epochs of as many steps as with all workers.

    When an epoch begins, its examples are dealt to the members of then. With fewer members each sees another part of
    all examples in every epoch. A worker that comes in the middle draws from all examples until the next.

    Args:
        group: the members.
        build: returns the batches of the share ``place`` of ``workers``, given a seed.
        seed: of the run.
    """

    def __init__(self, group: ElasticGroup, build: Callable[[int, int, int], BatchSampler], seed: int) -> None:
        self._group = group
        self._build = build
        self._deal = _Deal(group.world_size, group.rank, seed)
        self._seed = seed
        self.sampler = build(group.world_size, group.rank, seed)
        self.steps_per_epoch = self.sampler.steps_per_epoch

    def begin(self, step: int) -> None:
        """Begin with ``step``: in the middle of an epoch nothing has been dealt to this worker."""
        if step % self.steps_per_epoch:
            group = self._group
            self._take(_Deal(group.world_size, group.rank, self._seed + _ANOTHER_ORDER * group.me.life))

    def deal(self, step: int) -> bool:
        """Deal the examples of the epoch that begins with ``step``, if one does; return whether it changes anything."""
        if step % self.steps_per_epoch:
            return False
        ranks = self._group.roster_at(step).ranks
        return self._take(_Deal(len(ranks), ranks.index(self._group.rank), self._seed))

    def indices(self, epoch: int) -> Sequence[Tensor]:
        """Return this member's batches of an epoch; there may be more than ``steps_per_epoch``, which stay unused."""
        return self.sampler.indices(epoch)

    def _take(self, deal: _Deal) -> bool:
        if deal == self._deal:
            return False
        self._deal = deal
        self.sampler = self._build(deal.workers, deal.place, deal.seed)
        return True
