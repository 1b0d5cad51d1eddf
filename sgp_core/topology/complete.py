"""The complete graph: gossip that is AllReduce in one step."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.topology.base import TOPOLOGIES
from sgp_core.topology.undirected import UndirectedTopology


@TOPOLOGIES.register("complete")
@dataclass(frozen=True)
class Complete(UndirectedTopology):
    """Every worker sends to every other; P = J, the exact mean at every step, for n - 1 messages a worker."""

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return [(rank + hop) % self.world_size for hop in range(1, self.world_size)]
