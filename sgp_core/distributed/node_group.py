"""Node groups: the workers of one node act as one gossip node, without a leader.

Worker number s of a node owns shard s, the s-th of m equal stretches of every piece of the model. It exchanges that
shard with worker s of the peer nodes, in a process group of their own, so that all of the node's links to others are
used, for an m-th of the model each. Inside, gradients are averaged and shards gathered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.comm_stats import CommunicationStats
from sgp_core.distributed.point_to_point import PointToPoint
from sgp_core.distributed.process_group import make_subgroup
from sgp_core.errors import ConfigurationError, PeerLost
from sgp_core.tensors.flat_vector import FlatVector, as_operand


class NodeGroup(CommunicationStats):
    """The workers of this worker's node, and its counterparts in the other nodes.

    Args:
        group: the process group of all workers, None for the default one; ``size`` consecutive ranks form a node.
        size: workers of a node, m; 1 makes no process group and no message.
        device: where the model is.

    Attributes:
        count: number of nodes.
        number: which of them this is.
        place: this worker's number in it, and the shard it owns.
        peers: process group of the workers at this place in every node.
        ranks: global ranks of the workers of this node, by place.

    Raises:
        ConfigurationError: the workers cannot be divided into such nodes.
    """

    def __init__(self, group: dist.ProcessGroup | None, size: int, device: torch.device) -> None:
        workers = dist.get_process_group_ranks(group) if dist.is_initialized() else [0]
        if size < 1 or len(workers) % size:
            raise ConfigurationError(
                f"node_size={size}: the number of workers, {len(workers)}, must be a multiple of the workers of a node"
            )
        self.size = size
        self.count = len(workers) // size
        rank = dist.get_rank(group) if dist.is_initialized() else 0
        self.number, self.place = divmod(rank, size)
        self.ranks = workers[self.number * size : (self.number + 1) * size]
        self.peers = group
        super().__init__()
        self._inside: dist.ProcessGroup | None = None
        self._room: dict[tuple[torch.dtype, int], Tensor] = {}
        if size > 1:
            self._inside = make_subgroup(self.ranks, group, device)
            self._messages = PointToPoint(self._inside)
            self.peers = make_subgroup(workers[self.place :: size], group, device)

    def shard_of(self, x: FlatVector) -> FlatVector:
        """Return this worker's shard of a vector, as views; pieces are multiples of the node's size long."""
        if self.size == 1:
            return x
        shards = [tensor.chunk(self.size)[self.place] for tensor in x.tensors]
        return FlatVector(shards, wire=[*shards, *_beside(x)])

    # -- messages inside the node ------------------------------------------------------------------------------------
    def reduce(self, x: FlatVector) -> None:
        """Set this worker's shard of ``x`` to its mean over the node; the other shards are left undefined.

        Each worker sends every other its shard of ``x``, straight from ``x``: half an AllReduce, and every sum is
        formed in one place, always in the same order. What ``x`` carries beside the vector is summed whole.
        """
        if self.size == 1:
            return
        with self._timed():
            beside = [dist.all_reduce(tensor, group=self._inside, async_op=True) for tensor in _beside(x)]
            for tensor in x.tensors:
                shards = tensor.chunk(self.size)
                rooms = self._rooms(shards[self.place])
                self._wait(self._exchange({other: rooms[other] for other in self._others}, dict(enumerate(shards))))
                mine = shards[self.place]
                for room in rooms.values():
                    mine.add_(room)
                mine.div_(as_operand(self.size, mine))
                self._count(mine)
            self._wait(beside)

    def gather(self, x: FlatVector) -> None:
        """Set every shard of ``x`` to its owner's."""
        if self.size == 1:
            return
        with self._timed():
            works = []
            for tensor in x.tensors:
                shards = tensor.chunk(self.size)
                mine = shards[self.place]
                works += self._exchange({o: shards[o] for o in self._others}, dict.fromkeys(range(self.size), mine))
                self._count(mine)
            self._wait(works)

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Set every worker's tensors to those of the node's first."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=self.ranks[0], group=self._inside)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over the node."""
        if self.size > 1:
            dist.all_reduce(values, group=self._inside)
        return values

    def add_up(self, values: Tensor) -> Tensor:
        """Return the same for training: counted, as a ring's AllReduce."""
        if self.size > 1:
            with self._timed():
                self.total(values)
            self.bytes_sent += 2 * (self.size - 1) * values.numel() * values.element_size() // self.size
        return values

    # -- inside ------------------------------------------------------------------------------------------------------
    @property
    def _others(self) -> list[int]:
        return [place for place in range(self.size) if place != self.place]

    def _exchange(self, into: dict[int, Tensor], what: dict[int, Tensor]) -> list[Any]:
        """Receive from and send to every other worker of the node; receives first, or gloo serialises a pair."""
        if not what[0].numel():
            return []
        receives = [self._messages.receive(into[other], other) for other in self._others]
        arrivals, departures = self._messages.post(receives, [self._messages.send(what[o], o) for o in self._others])
        return arrivals if arrivals is departures else [*arrivals, *departures]

    def _wait(self, works: list[Any]) -> None:
        try:
            for work in works:
                work.wait()
        except RuntimeError as error:
            raise PeerLost(
                f"worker {self.place} of node {self.number} lost the others of its node, ranks {self.ranks}: {error}",
                rank=self.ranks[self.place],
            ) from error

    def _rooms(self, like: Tensor) -> dict[int, Tensor]:
        """Return where the others' versions of a shard arrive, by place; made once."""
        key = (like.dtype, like.numel())
        if key not in self._room:
            self._room[key] = like.new_zeros(self.size - 1, like.numel())
        return dict(zip(self._others, self._room[key], strict=True))

    def _count(self, shard: Tensor) -> None:
        self.bytes_sent += (self.size - 1) * shard.numel() * shard.element_size()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def _beside(x: FlatVector) -> list[Tensor]:
    return x.wire[len(x.tensors) :]
