"""Rings: the sparsest connected regular graphs, and the slowest to agree."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.topology.base import TOPOLOGIES, Topology
from sgp_core.topology.undirected import UndirectedTopology


@TOPOLOGIES.register("ring")
@dataclass(frozen=True)
class Ring(UndirectedTopology):
    """Every worker exchanges with both its neighbours; spectral gap 2/3 (1 - cos(2 pi / n))."""

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        n = self.world_size
        return [peer for peer in dict.fromkeys([(rank + 1) % n, (rank - 1) % n]) if peer != rank]


@TOPOLOGIES.register("directed_ring")
@dataclass(frozen=True)
class DirectedRing(Topology):
    """Every worker sends to the next one only; spectral gap 1 - cos(pi / n)."""

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return [(rank + 1) % self.world_size] if self.world_size > 1 else []
