"""Coded exchanges between virtual workers, row by row: the same codecs on the same bytes as between real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
        message_bytes: of the codes of the first shard of a row, without the weight.
        in_flight: by the step of sending, what has been taken off each row, ``[n, d]``, and weight, ``[n, 1]``, to be
            pulled.
    """

    def __init__(
        self, codec: Codec, memory: TensorLayout, start: Tensor, topology: Topology, node_size: int = 1
    ) -> None:
        self._codec = codec
        self._topology = topology
        self._size = max(1, -(-len(start) // node_size))
        self.message_bytes = codec.nbytes([memory.between(0, self._size)])
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

    def state_dict(self) -> dict[str, Any]:
        """Return the copies at both ends of every edge, and the messages that are under way."""
        return {
            "ends": [[end.state_dict() for end in ends] for ends in self._ends],
            "sent": {step: sent.state_dict() for step, sent in self._sent.items()},
            "ahead": {step: sent.state_dict() for step, sent in self._ahead.items()},
            "in_flight": {step: [x.clone(), w.clone()] for step, (x, w) in self.in_flight.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        for ends, states in zip(self._ends, state["ends"], strict=True):
            for end, saved in zip(ends, states, strict=True):
                end.load_state_dict(saved)
        self._sent = {step: self._payloads_of(saved, step) for step, saved in state["sent"].items()}
        self._ahead = {step: self._payloads_of(saved, step) for step, saved in state["ahead"].items()}
        self.in_flight = {step: (x.clone(), w.clone()) for step, (x, w) in state["in_flight"].items()}

    def _payloads_of(self, saved: dict[str, Any], step: int) -> _SentPayloads:
        """Return messages of :meth:`_SentPayloads.state_dict`."""
        payloads: list[list[dict[int, Payload]]] = []
        for ends, of_shard in zip(self._ends, saved["payloads"], strict=True):
            payloads.append([end.payloads.take(kept) for end, kept in zip(ends, of_shard, strict=True)])
            for given, kept in zip(payloads[-1], of_shard, strict=True):
                for peer, payload in given.items():
                    payload.bytes().copy_(kept[peer])
        return _SentPayloads(self._parts(step), payloads, saved["kept"].clone(), saved["weighed"])

    def _parts(self, step: int) -> list[EdgeWeights]:
        ranks = range(self._topology.world_size)
        return [EdgeWeights.of(self._topology, rank, step, self._codec.gamma) for rank in ranks]

    def _list(self, weight: Scalar | None) -> list[float | None]:
        return weight.flatten().tolist() if isinstance(weight, Tensor) else [None] * self._topology.world_size

    def _give(self, x: FlatVector, step: int, weight: Scalar | None, *, ahead: bool = False) -> _SentPayloads:
        parts = self._parts(step)
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

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the bytes of all messages, and what goes with them."""
        return {
            "payloads": [
                [{peer: payload.bytes().clone() for peer, payload in given.items()} for given in of_shard]
                for of_shard in self.payloads
            ],
            "kept": self.kept.clone(),
            "weighed": self.weighed,
        }
