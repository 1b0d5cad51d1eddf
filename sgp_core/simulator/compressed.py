"""Coded exchanges between virtual workers, row by row: the same codecs on the same bytes as between real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgp_core.compression import Codec
from sgp_core.runtime.compressed.edge_replicas import EdgeReplicas, EdgeWeights
from sgp_core.runtime.compressed.payload import Payload
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.tensors.layout import TensorLayout
from sgp_core.topology import Topology


class SimulatedReplicas:
    """Both ends of every edge, for vectors ``[n, d]``.

    Args:
        memory: how a row lies in memory.
        start: ``[d]``, what references start as.
        node_size: shards that a row is exchanged in, each by workers of its own.

    Attributes:
        in_flight: by the step of sending, what has been taken off each row, ``[n, d]``, and weight, ``[n, 1]``, to be
            pulled.
    """

    def __init__(
        self, codec: Codec, memory: TensorLayout, start: Tensor, topology: Topology, node_size: int = 1
    ) -> None:
        self._codec = codec
        self._topology = topology
        self._size = max(1, -(-len(start) // node_size))
        self._ends = [
            [
                EdgeReplicas(rank, codec, [memory.between(begin, begin + self._size)], FlatVector([shard]), topology)
                for rank in range(topology.world_size)
            ]
            for begin, shard in zip(range(0, len(start), self._size), start.split(self._size), strict=True)
        ]
        self._sent: dict[int, _SentPayloads] = {}
        self._ahead: dict[int, _SentPayloads] = {}
        self._apart: FlatVector | None = None
        self.in_flight: dict[int, tuple[Tensor, Tensor]] = {}

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Mix every row; return the weights, ``[n, 1]``, mixed alike (1 if None)."""
        sent = self._give(x, step, weight)
        arrived = self._take(x, sent)
        return sent.kept + arrived if isinstance(weight, Tensor) else 1.0

    def post_ahead(self, z: FlatVector, step: int, weight: Scalar | None) -> None:
        """Code every row; nothing is taken off it."""
        self._ahead[step] = self._give(z, step, weight, ahead=True)

    def combine(self, z: FlatVector, step: int, weight: Scalar | None, *, apart: bool) -> Scalar:
        """Do what :meth:`mix` does to ``w_i z_i``, or keep the difference apart; return the weights mixed."""
        if step not in self._ahead:
            self.post_ahead(z, step, weight)
        sent = self._ahead.pop(step)
        mixed = z.clone() if apart else z
        if isinstance(weight, Tensor) or apart:
            mixed.mul_((1.0 if weight is None else weight) - float(apart))
        arrived = self._take(mixed, sent, self._list(weight))
        self._apart = mixed if apart else None
        return sent.kept + arrived if isinstance(weight, Tensor) else 1.0

    def complete(self, x: FlatVector) -> None:
        """Add what was kept apart."""
        if self._apart is not None:
            x.add_(self._apart)
            self._apart = None

    def push(self, x: FlatVector, step: int, weight: Tensor) -> Tensor:
        """Take off every row what it gives; return the weights that stay."""
        before = x.tensors[0].clone()
        sent = self._sent[step] = self._give(x, step, weight)
        self.in_flight[step] = before - x.tensors[0], weight - sent.kept
        return sent.kept

    def pull(self, x: FlatVector, step: int, weight: Tensor) -> Tensor:
        """Add what was pushed at ``step``, if anything was; return the weights with theirs added."""
        if step not in self._sent:
            return weight
        del self.in_flight[step]
        return weight + self._take(x, self._sent.pop(step))

    def _list(self, weight: Scalar | None) -> list[float | None]:
        return weight.flatten().tolist() if isinstance(weight, Tensor) else [None] * self._topology.world_size

    def _give(self, x: FlatVector, step: int, weight: Scalar | None, *, ahead: bool = False) -> _SentPayloads:
        n = self._topology.world_size
        parts = [EdgeWeights.of(self._topology, rank, step, self._codec.gamma) for rank in range(n)]
        weights = self._list(weight)
        payloads = [
            [
                (end.code if ahead else end.give)(row, part, own)
                for end, row, part, own in zip(ends, rows, parts, weights, strict=True)
            ]
            for ends, rows in zip(self._ends, self._rows(x), strict=True)
        ]
        own = torch.tensor([[part.own] for part in parts], dtype=torch.float64)
        return _SentPayloads(parts, payloads, own * weight if isinstance(weight, Tensor) else own, weight is not None)

    def _take(self, x: FlatVector, sent: _SentPayloads, owns: Sequence[float | None] | None = None) -> Tensor:
        """Add to every row what it is given; with ``owns``, their weights, also take off what it gives."""
        arrived: list[float] = []
        for ends, rows, payloads in zip(self._ends, self._rows(x), sent.payloads, strict=True):
            inboxes = [
                {sender: payloads[sender][rank] for sender in part.takes} for rank, part in enumerate(sent.parts)
            ]
            arrived = [  # the same for every shard
                end.take(row, part, inbox, weighed=sent.weighed)
                if owns is None
                else end.exchange(row, part, owns[rank], inbox)
                for rank, (end, row, part, inbox) in enumerate(zip(ends, rows, sent.parts, inboxes, strict=True))
            ]
            for end, own in zip(ends, payloads, strict=True):
                end.payloads.put_back(own.values())
        return torch.tensor(arrived, dtype=torch.float64).unsqueeze(1)

    def _rows(self, x: FlatVector) -> list[list[FlatVector]]:
        """Return each worker's shard of its row, by shard and worker, as views."""
        return [[FlatVector([row]) for row in shard] for shard in x.tensors[0].split(self._size, dim=1)]


@dataclass(frozen=True)
class _SentPayloads:
    """One step's messages.

    Attributes:
        parts: every worker's.
        payloads: by shard, sender and receiver.
        kept: the weights that stay with their workers, ``[n, 1]``.
        weighed: whether weights travel.
    """

    parts: Sequence[EdgeWeights]
    payloads: Sequence[Sequence[dict[int, Payload]]]
    kept: Tensor
    weighed: bool
