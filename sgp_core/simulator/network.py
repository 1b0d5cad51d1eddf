"""Exchanges between virtual workers, whose vectors carry a leading axis of workers, ``[n, d]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgp_core.compression import Codec
from sgp_core.simulator.coded_means import average_coded
from sgp_core.simulator.compressed import SimulatedReplicas
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.tensors.mixing import difference_, difference_scale, mix_
from sgp_core.topology import Topology


class SimulatedNetwork:
    """Exchanges between virtual workers: rows of stacked tensors, of which ``like`` is the first.

    Args:
        references: what codes messages; None: they are not coded.
        node_size: workers of a node, each of which sends a part of the row.

    Attributes:
        bytes_sent: by the mean worker (node), counted as real workers do; codes are counted as what they stand for.
        sent_by_first: bytes that the first worker has sent to others, codes as they are: what rank 0 reports.
    """

    def __init__(
        self, topology: Topology, like: FlatVector, references: SimulatedReplicas | None = None, node_size: int = 1
    ) -> None:
        self.topology = topology
        self._node_size = node_size
        self.sent_by_first = 0
        self._references = references
        self._plans: dict[int, _Plan] = {}
        self._in_flight: dict[int, tuple[FlatVector, Tensor]] = {}
        self._alike = all(bool((tensor == tensor[0]).all()) for tensor in like.tensors)
        self._apart: list[tuple[Tensor, float]] = []
        self._means: dict[int, FlatVector] = {}
        self._scratch = like.zeros_like()
        self.bytes_sent = 0.0

    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Do nothing: what is mixed is there."""

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace row i by ``sum_j P_ij(step) x_j``; return the weights, ``[n, 1]``, mixed alike."""
        self._count(x, self.topology, step, weighed=weight is not None, coded=True)
        if self._references is not None:
            return self._references.mix(x, step, weight)
        plan = self._plan(step)
        for tensor in x.tensors:
            plan.apply_(tensor)
        return plan.mix_weights(weight)

    def post_ahead(self, z: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Send nothing: what is combined is there."""
        self._alike = False
        if self._references is not None:
            self._references.post_ahead(z, step, weight)

    def combine(self, z: FlatVector, step: int, weight: Scalar | None = None, *, apart: bool) -> Scalar:
        """Replace row i by ``sum_j P_ij w_j z_j``, or keep the difference; return the weights mixed, 1 if None."""
        if self._alike and weight is None:  # they are their average
            return 1.0
        self._count(z, self.topology, step, weighed=weight is not None, coded=True)
        if self._references is not None:
            return self._references.combine(z, step, weight, apart=apart)
        plan = self._plan(step).weighed(weight)
        if apart:
            self._apart = [plan.difference(tensor) for tensor in z.tensors]
        else:
            for tensor in z.tensors:
                plan.apply_(tensor)
        return self._plan(step).mix_weights(weight)

    def complete(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Add what was kept apart; return ``weight``, 1 if None."""
        if self._references is not None:
            self._references.complete(x)
            return 1.0 if weight is None else weight
        for tensor, (difference, scale) in zip(x.tensors, self._apart, strict=False):
            tensor.add_(difference, alpha=scale)
        self._apart = []
        return 1.0 if weight is None else weight

    def push(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Keep copies for :meth:`pull`, and each worker's own share in place; return the weights kept, ``[n, 1]``."""
        assert isinstance(weight, Tensor)
        self._count(x, self.topology, step, weighed=True, coded=True)
        if self._references is not None:
            return self._references.push(x, step, weight)
        self._in_flight[step] = x.clone(), weight.clone()
        own = self._plan(step).own
        x.mul_(own)
        return weight * own

    def pull(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Add the shares pushed at ``step``, if any were; return the weights with theirs added."""
        assert isinstance(weight, Tensor)
        if self._references is not None:
            return self._references.pull(x, step, weight)
        if step not in self._in_flight:
            return weight
        sent, weights = self._in_flight.pop(step)
        total = weight.clone()
        arrived = torch.zeros_like(weight)
        for senders, share in self._plan(step).slots:
            for mine, theirs in zip(x.tensors, sent.tensors, strict=True):
                mix_(mine, 1.0, theirs[senders], share)
            mix_(arrived, 1.0, weights[senders], share)
        return total + arrived

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Pull everything that is in flight."""
        for step in sorted(self._in_flight if self._references is None else self._references.in_flight):
            weight = self.pull(x, step, weight)
        return weight

    @property
    def ranks(self) -> list[int]:
        """All workers."""
        return list(range(self.topology.world_size))

    def share(self, tables: Tensor, step: int) -> Tensor:
        """Return what arrives when every worker sends its row of ``tables``, ``[n, ...]``: ``[peers, n, ...]``."""
        table = tables[0]
        self.sent_by_first += len(self.topology.edges(step).out_peers[0]) * table.numel() * table.element_size()
        return torch.stack([tables[senders] for senders, _ in self._plan(step).slots] or [tables])

    def in_flight(self) -> tuple[Tensor, Tensor]:
        """Return the sums of the numerators, ``[d]``, and of the weights, ``[]``, that have been sent and not added."""
        x = self._scratch.tensors[0].new_zeros(self._scratch.tensors[0].shape)
        w = torch.zeros(len(x), 1, dtype=torch.float64)
        for gone, weights in (self._references.in_flight if self._references is not None else {}).values():
            x += gone
            w += weights
        for step, (sent, weights) in self._in_flight.items():
            for senders, share in self._plan(step).slots:
                mix_(x, 1.0, sent.tensors[0][senders], share)
                mix_(w, 1.0, weights[senders], share)
        return x.sum(0), w.sum()

    def scratch(self) -> FlatVector:
        """Return memory for rows of models."""
        return self._scratch

    def mean(self, x: FlatVector) -> None:
        """Replace every row by the average row."""
        self._count_mean(x)
        for tensor in x.wire:
            tensor.copy_(tensor.mean(0, keepdim=True).expand_as(tensor))

    def post_mean(self, x: FlatVector, key: int, codec: Codec | None = None) -> None:
        """Average copies of the rows, and keep them for :meth:`take_mean`."""
        if codec is not None and self.topology.world_size > 1:
            self._means[key], sent = average_coded(x, codec, key)
            self._count_mean(x, sent)
            return
        self._count_mean(x)
        self._means[key] = FlatVector([t.mean(0, keepdim=True).expand_as(t).contiguous() for t in x.tensors])
        if codec is not None:
            x.zero_()

    def forward_mean(self, key: int) -> None:
        """Do nothing: the average is there."""

    def take_mean(self, key: int) -> FlatVector:
        """Return them."""
        return self._means.pop(key)

    def _count_mean(self, x: FlatVector, sent: int | None = None) -> None:
        """Count an average, of which the first worker has sent so many bytes; None: as a ring does it."""
        n = self.topology.world_size
        self.bytes_sent += 2 * (n - 1) / n * x.nbytes / n
        self.sent_by_first += self._shard_bytes(x) * 2 * (n - 1) // n if sent is None else sent

    def mix_along(self, x: FlatVector, topology: Topology, step: int) -> None:
        """Replace row i by ``sum_j P_ij(step) x_j`` of another topology."""
        self._count(x, topology, step)
        plan = _Plan.of(topology, step)
        for tensor in x.tensors:
            plan.apply_(tensor)

    def swap(self, outgoing: Sequence[FlatVector], incoming: Sequence[FlatVector], step: int) -> None:
        """Set row i of ``incoming[s]`` to what the in-peer number s of i gives to i; to 0 where there is none."""
        in_peers = self.topology.edges(step).in_peers
        for vector in outgoing[:1]:
            self._count(vector, self.topology, step)
        for slot, vector in enumerate(incoming):
            vector.zero_()
            for receiver, peers in enumerate(in_peers):
                if slot >= len(peers):
                    continue
                sender = peers[slot]
                given = outgoing[in_peers[sender].index(receiver)]
                for mine, theirs in zip(vector.tensors, given.tensors, strict=True):
                    mine[receiver] = theirs[sender]

    def in_degree(self, step: int) -> int:
        """Return the largest number of in-peers."""
        return self.topology.edges(step).max_in_degree

    def own(self, values: np.ndarray) -> Scalar:
        """Return ``values`` as ``[n, 1]``."""
        return torch.from_numpy(np.array(values, dtype=np.float64)).unsqueeze(1)

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on to the bit, messages in flight included."""
        return {
            "in_flight": {step: [*x.clone().tensors, w.clone()] for step, (x, w) in self._in_flight.items()},
            "alike": self._alike,
            "bytes_sent": self.bytes_sent,
            "sent_by_first": self.sent_by_first,
            "means": {key: x.clone().tensors for key, x in self._means.items()},
            "references": None if self._references is None else self._references.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self._in_flight = {step: (FlatVector(x).clone(), w.clone()) for step, (*x, w) in state["in_flight"].items()}
        self._means = {key: FlatVector(x).clone() for key, x in state.get("means", {}).items()}
        self._alike = bool(state["alike"])
        self.bytes_sent, self.sent_by_first = float(state["bytes_sent"]), int(state["sent_by_first"])
        if self._references is not None:
            self._references.load_state_dict(state["references"])

    def _count(
        self, x: FlatVector, topology: Topology, step: int, *, weighed: bool = False, coded: bool = False
    ) -> None:
        n, edges = topology.world_size, topology.edges(step)
        messages = sum(map(len, edges.in_peers)) / n
        self.bytes_sent += messages * (x.nbytes / n + 8 * weighed)
        codes = self._references if coded else None
        message = self._shard_bytes(x) if codes is None else codes.message_bytes
        self.sent_by_first += len(edges.out_peers[0]) * (message + 8 * weighed)

    def _shard_bytes(self, x: FlatVector) -> int:
        """Return the bytes that one worker sends of its row."""
        return sum(-(-t[0].numel() // self._node_size) * t.element_size() for t in x.wire)

    def _plan(self, step: int) -> _Plan:
        period = self.topology.period
        if period is None:
            return _Plan.of(self.topology, step)
        phase = step % period
        if phase not in self._plans:
            self._plans[phase] = _Plan.of(self.topology, phase)
        return self._plans[phase]


@dataclass(frozen=True)
class _Plan:
    """One step's graph as gathers: every worker's own weight, then per message slot its sender and weight."""

    own: Scalar
    slots: list[tuple[Tensor, Scalar]]

    @classmethod
    def of(cls, topology: Topology, step: int) -> _Plan:
        edges, n = topology.edges(step), topology.world_size
        senders = np.tile(np.arange(n), (edges.max_in_degree, 1))  # an empty slot receives one's own with weight 0
        weights = np.zeros((edges.max_in_degree, n))
        for i, (peers, shares) in enumerate(zip(edges.in_peers, edges.in_weights, strict=True)):
            senders[: len(peers), i] = peers
            weights[: len(peers), i] = shares
        slots = [(torch.from_numpy(s), _shared(w)) for s, w in zip(senders, weights, strict=True)]
        return cls(_shared(np.array(edges.own_weight)), slots)

    def mix_weights(self, weights: Scalar | None) -> Scalar:
        """Return PushSum weights, ``[n, 1]``, mixed; 1 if there are none."""
        if weights is None:
            return 1.0
        assert isinstance(weights, Tensor)
        mixed = weights.clone()
        self.apply_(mixed)
        return mixed

    def weighed(self, weights: Scalar | None) -> _Plan:
        """Return the plan for vectors that count ``w_j`` times as much, ``[n, 1]``; this one if all weights are 1."""
        if not isinstance(weights, Tensor):
            return self
        return _Plan(self.own * weights, [(senders, share * weights[senders]) for senders, share in self.slots])

    def difference(self, x: Tensor) -> tuple[Tensor, float]:
        """Return what :meth:`apply_` would change, over a factor, and the factor: rounded as by real workers."""
        if isinstance(self.own, Tensor) or any(isinstance(share, Tensor) for _, share in self.slots):
            mixed = x.clone()
            self.apply_(mixed)
            return mixed - x, 1.0
        into, shares = torch.empty_like(x), [float(share) for _, share in self.slots]
        difference_(into, x, self.own, [x[senders] for senders, _ in self.slots], shares)
        return into, difference_scale(self.own, shares)

    def apply_(self, x: Tensor) -> None:
        before = x.clone() if len(self.slots) > 1 else x
        own = self.own
        for senders, weight in self.slots:
            mix_(x, own, before[senders], weight)
            own = 1.0


def _shared(weights: np.ndarray) -> Scalar:
    """Return one number where all workers share it (so that arithmetic is that of a real worker), else ``[n, 1]``."""
    return float(weights[0]) if (weights == weights[0]).all() else torch.from_numpy(weights).unsqueeze(1)
