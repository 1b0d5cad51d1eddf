"""What a transport is: the way vectors travel between workers, below any rule and any runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sgp_core.flat import Flat, Tensor
from sgp_core.runtime.mixing import mix_
from sgp_core.topology import Topology

Content = list[tuple[list[Tensor], float]]
"""What has arrived of one message slot after another: the pieces of the sender's vector, and its PushSum weight."""


@dataclass(frozen=True)
class Exchange:
    """One worker's part in the graph of one step.

    Attributes:
        own: the share of its own vector a worker keeps.
        shares: what it takes of each in-peer's.
        in_degree: the largest number of in-peers anywhere, so that all workers cut their messages alike.
    """

    step: int
    rank: int
    in_peers: tuple[int, ...]
    out_peers: tuple[int, ...]
    own: float
    shares: tuple[float, ...]
    in_degree: int

    @classmethod
    def of(cls, topology: Topology, rank: int, step: int) -> Exchange:
        """Read it off the topology."""
        edges = topology.edges(step)
        return cls(
            step,
            rank,
            edges.in_peers[rank],
            edges.out_peers[rank],
            edges.own_weight[rank],
            edges.in_weights[rank],
            edges.max_in_degree,
        )


class Message(Protocol):
    """A vector under way from every in-peer of one step."""

    def add_to(self, x: Flat) -> float:
        """Wait, add ``sum_j P_ij x_j`` to ``x``, give the memory back; return ``sum_j P_ij w_j``. Once only."""

    def content(self) -> Content:
        """Wait and return copies of what the in-peers have sent, in the order of ``in_peers``."""


class Transport(Protocol):
    """Carries vectors of one layout between the workers of one group."""

    name: str

    def mix(self, x: Flat, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``own x + sum_j share_j x_j`` in place; return the weight mixed alike (1 if None)."""

    def push(self, x: Flat, exchange: Exchange, weight: float) -> Message:
        """Begin to send ``x``, which may be changed at once, to the out-peers and to receive from the in-peers."""

    def exchange_bytes(self, sends: Mapping[int, Tensor], receives: Mapping[int, Tensor], exchange: Exchange) -> None:
        """Send each out-peer its bytes and fill those of each in-peer, ``uint8`` of the length sent; wait for both."""

    def scratch(self) -> Flat:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""


class Arrived:
    """A message whose content is known: one that a checkpoint has kept."""

    def __init__(self, content: Content, exchange: Exchange) -> None:
        self._content = content
        self._shares: Sequence[float] = exchange.shares

    def add_to(self, x: Flat) -> float:
        weight = 0.0
        for (pieces, theirs), share in zip(self._content, self._shares, strict=True):
            for mine, piece in zip(x.tensors, pieces, strict=True):
                mix_(mine, 1.0, piece, share)
            weight += share * theirs
        return weight

    def content(self) -> Content:
        return [([piece.clone() for piece in pieces], weight) for pieces, weight in self._content]
