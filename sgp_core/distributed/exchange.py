"""One worker's part in the graph of one step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from sgp_core.topology import Topology
from sgp_core.topology.base import Edges


@dataclass(frozen=True)
class Exchange:
    """One worker's part in the graph of one step.

    Attributes:
        own: the share of its own vector a worker keeps.
        shares: what it takes of each in-peer's.
        edges: everybody's part.
    """

    step: int
    rank: int
    in_peers: tuple[int, ...]
    out_peers: tuple[int, ...]
    own: float
    shares: tuple[float, ...]
    edges: Edges

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
            edges,
        )

    @property
    def in_degree(self) -> int:
        """The largest number of in-peers anywhere, so that all workers cut their messages alike."""
        return self.edges.max_in_degree

    def among(self, peers: Collection[int]) -> Exchange:
        """Return the part of it that these peers have, in the same order."""
        taken = [(peer, share) for peer, share in zip(self.in_peers, self.shares, strict=True) if peer in peers]
        return replace(
            self,
            in_peers=tuple(peer for peer, _ in taken),
            out_peers=tuple(peer for peer in self.out_peers if peer in peers),
            shares=tuple(share for _, share in taken),
        )

    def lost(self, why: object) -> RuntimeError:
        """Return (to be raised) the error that says which exchange could not be, and why."""
        where = f"receiving from {list(self.in_peers)}, sending to {list(self.out_peers)}"
        return RuntimeError(f"rank {self.rank} lost its exchange of step {self.step} ({where}): {why}")
