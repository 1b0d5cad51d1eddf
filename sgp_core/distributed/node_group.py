"""Node groups: the workers of one node act as one gossip node, without a leader.

Worker s of a node owns shard s, the s-th of m equal parts of every piece of the model. It exchanges that shard with
worker s of the peer nodes, in a process group of their own: all links of the node are used, for an m-th of the model
each. Inside the node, gradients are averaged and shards gathered.
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
from sgp_core.distributed.process_group import break_connections, make_subgroup
from sgp_core.errors import ConfigurationError, PeerLost
from sgp_core.tensors.flat_vector import FlatVector, as_operand


class NodeGroup(CommunicationStats):
    """Collectives over the workers of this worker's node, and the process group of its counterparts in other nodes.

    Args:
        group: the process group of all workers, None for the default one; ``size`` consecutive ranks form a node.
        size: the number of workers of a node, m; with 1 there are no messages and no further process groups.
        device: the device of the model.

    Attributes:
        count: the number of nodes.
        number: the number of this worker's node.
        place: the number of this worker in its node, and of the shard that it owns.
        peers: the process group of the workers at this place in every node.
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
        self._buffers: dict[tuple[torch.dtype, int], Tensor] = {}
        if size > 1:
            self._inside = make_subgroup(self.ranks, group, device)
            self._messages = PointToPoint(self._inside)
            self.peers = make_subgroup(workers[self.place :: size], group, device)

    def shard_of(self, x: FlatVector) -> FlatVector:
        """Return this worker's shard of a vector, as views; the size of each piece is a multiple of the node's size."""
        if self.size == 1:
            return x
        shards = [tensor.chunk(self.size)[self.place] for tensor in x.tensors]
        return FlatVector(shards, wire=[*shards, *_attachments(x)])

    # -- collectives of the node -----------------------------------------------------------------------------------
    def reduce(self, x: FlatVector) -> None:
        """Reduce-scatter: set this worker's shard of ``x`` to its mean over the node. Other shards become undefined.

        Each worker sends to every other worker that one's shard, straight from ``x``, so every sum is formed in one
        place and always in the same order. Tensors that are sent with the vector are summed whole.

        Raises:
            PeerLost: a worker of the node is gone.
        """
        if self.size == 1:
            return
        with self._measure_time():
            attached = [dist.all_reduce(tensor, group=self._inside, async_op=True) for tensor in _attachments(x)]
            for tensor in x.tensors:
                shards = tensor.chunk(self.size)
                received = self._receive_buffers(shards[self.place])
                self._wait(self._exchange(received, dict(enumerate(shards))))
                mine = shards[self.place]
                for shard in received.values():
                    mine.add_(shard)
                mine.div_(as_operand(self.size, mine))
                self._count(mine)
            self._wait(attached)

    def gather(self, x: FlatVector) -> None:
        """All-gather: set every shard of ``x`` to its owner's.

        Raises:
            PeerLost: a worker of the node is gone.
        """
        if self.size == 1:
            return
        with self._measure_time():
            works = []
            for tensor in x.tensors:
                shards = tensor.chunk(self.size)
                mine = shards[self.place]
                works += self._exchange({o: shards[o] for o in self._others}, dict.fromkeys(range(self.size), mine))
                self._count(mine)
            self._wait(works)

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Set every worker's tensors to those of the first worker of the node."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=self.ranks[0], group=self._inside)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over the node."""
        if self.size > 1:
            dist.all_reduce(values, group=self._inside)
        return values

    def maximum(self, values: Tensor) -> Tensor:
        """Return the maximum of each element over the node."""
        if self.size > 1:
            dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self._inside)
        return values

    def add_up(self, values: Tensor) -> Tensor:
        """Return the same sum for training: counted among the bytes sent, as a ring's AllReduce."""
        if self.size > 1:
            with self._measure_time():
                self.total(values)
            self.bytes_sent += 2 * (self.size - 1) * values.numel() * values.element_size() // self.size
        return values

    def interrupt(self, why: str) -> None:
        """Let what waits for workers of the node fail, for the reason ``why``; for another thread to call."""
        if self.size > 1:
            break_connections(self._inside)

    # -- inside ------------------------------------------------------------------------------------------------------
    @property
    def _others(self) -> list[int]:
        return [place for place in range(self.size) if place != self.place]

    def _exchange(self, into: dict[int, Tensor], tensors: dict[int, Tensor]) -> list[Any]:
        """Begin to receive from, and to send to, every other worker of the node."""
        if not tensors[0].numel():
            return []
        receives = [self._messages.receive(into[other], other) for other in self._others]
        sends = [self._messages.send(tensors[other], other) for other in self._others]
        arrivals, departures = self._messages.post(receives, sends)
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

    def _receive_buffers(self, like: Tensor) -> dict[int, Tensor]:
        """Return the buffers in which the other workers' versions of a shard arrive, by place; allocated once."""
        key = (like.dtype, like.numel())
        if key not in self._buffers:
            self._buffers[key] = like.new_zeros(self.size - 1, like.numel())
        return dict(zip(self._others, self._buffers[key], strict=True))

    def _count(self, shard: Tensor) -> None:
        self.bytes_sent += (self.size - 1) * shard.numel() * shard.element_size()

    @contextmanager
    def _measure_time(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def _attachments(x: FlatVector) -> list[Tensor]:
    """Return the tensors that are sent with a vector."""
    return x.wire[len(x.tensors) :]
