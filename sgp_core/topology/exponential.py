"""Exponential graphs: peers at powers of two."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.topology.base import TOPOLOGIES, Topology


@TOPOLOGIES.register("one_peer_exponential")
@dataclass(frozen=True)
class OnePeerExponential(Topology):
    """Placeholder header; completed with the k-peer form."""

    peers: int = 1

    @property
    def period(self) -> int:
        """Number of hops below ``world_size``: ceil(log_{peers+1} n), at least 1."""
        length, reach = 0, 1
        while reach < self.world_size:
            length, reach = length + 1, reach * (self.peers + 1)
        return max(length, 1)

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        hop = (self.peers + 1) ** (step % self.period)
        n = self.world_size
        return list(dict.fromkeys((rank + j * hop) % n for j in range(1, self.peers + 1) if (j * hop) % n))
