"""One worker's part in the graph of one step."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from sgp_core.errors import PeerLost
from sgp_core.topology import Topology
from sgp_core.topology.base import Edges

T = TypeVar("T")


@dataclass(frozen=True)
class Exchange:
    """One worker's part in the graph of one step.

    Attributes:
        rank: the worker's, in the process group of the exchange.
        own_weight: the mixing weight of the worker's own vector, ``P_ii``.
        in_weights: the mixing weight of each in-peer's vector, ``P_ij``, in the order of ``in_peers``.
        edges: the whole graph of the step.
    """

    step: int
    rank: int
    in_peers: tuple[int, ...]
    out_peers: tuple[int, ...]
    own_weight: float
    in_weights: tuple[float, ...]
    edges: Edges

    @classmethod
    def of(cls, topology: Topology, rank: int, step: int) -> Exchange:
        """Return the part of ``rank`` in the graph of ``step``."""
        return cls.along(topology.edges(step), rank, step)

    @classmethod
    def along(cls, edges: Edges, rank: int, step: int) -> Exchange:
        """Return the part of ``rank`` in the graph ``edges``, of ``step``."""
        return cls(
            step,
            rank,
            edges.in_peers[rank],
            edges.out_peers[rank],
            edges.own_weight[rank],
            edges.in_weights[rank],
            edges,
        )

    @property
    def in_degree(self) -> int:
        """The largest number of in-peers of any worker: all workers cut their messages by it, alike."""
        return self.edges.max_in_degree

    def shares(self, weight: float | None, arrived: Iterable[float]) -> tuple[float, tuple[float, ...]]:
        """Return by how much this worker's own ``z_i`` counts, ``P_ii w_i``, and those of the in-peers, ``P_ij w_j``.

        Args:
            weight: ``w_i``; None: all weights are 1.
            arrived: ``w_j`` of the in-peers, in their order; not looked at without ``weight``.
        """
        if weight is None:
            return self.own_weight, self.in_weights
        weighted = (share * theirs for share, theirs in zip(self.in_weights, arrived, strict=True))
        return self.own_weight * weight, tuple(weighted)

    def among(self, peers: Collection[int]) -> Exchange:
        """Return the exchange restricted to some peers, in the same order."""
        kept = [(peer, weight) for peer, weight in zip(self.in_peers, self.in_weights, strict=True) if peer in peers]
        return replace(
            self,
            in_peers=tuple(peer for peer, _ in kept),
            out_peers=tuple(peer for peer in self.out_peers if peer in peers),
            in_weights=tuple(weight for _, weight in kept),
        )

    def merge(self, peers: Collection[int], theirs: Iterable[T], others: Iterable[T]) -> list[T]:
        """Return an item for each in-peer, in their order: the next of ``theirs`` for ``peers``, else of ``others``."""
        first, second = iter(theirs), iter(others)
        return [next(first if peer in peers else second) for peer in self.in_peers]

    def lost(self, why: object, peers: Iterable[int] = ()) -> PeerLost:
        """Return the error to raise when the exchange fails.

        Args:
            why: the reason, for the message.
            peers: the ranks that are missing, as far as known.
        """
        where = f"receiving from {list(self.in_peers)}, sending to {list(self.out_peers)}"
        message = f"rank {self.rank} lost its exchange of step {self.step} ({where}): {why}"
        return PeerLost(message, rank=self.rank, peers=peers, step=self.step)
