"""Random graphs that are drawn once and stay."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np

from sgp_core.topology.base import TOPOLOGIES
from sgp_core.topology.undirected import UndirectedTopology, Weights

_DRAWS = 1000
_MOST_WORKERS = 4096
"""Every worker has the whole matrix in memory: 128 MB while it is drawn."""


@TOPOLOGIES.register("erdos_renyi")
@dataclass(frozen=True)
class ErdosRenyi(UndirectedTopology):
    """Every pair is an edge with probability ``p``; drawn again until connected. Default p = min(1, 2 ln(n) / n)."""

    weights: Weights = Weights.metropolis
    p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("seed", at_least=0)
        if self.p is not None and not 0 < self.p <= 1:
            raise self._refuse(f"needs p to lie in (0, 1], not {self.p}")
        if self.world_size > _MOST_WORKERS:
            raise self._refuse(f"draws every pair of workers, so at most {_MOST_WORKERS}, not {self.world_size}")
        _ = self._adjacency  # a graph that cannot be connected is refused here, not at the first step

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return np.flatnonzero(self._adjacency[rank]).tolist()

    @cached_property
    def _adjacency(self) -> np.ndarray:
        n = self.world_size
        usual = min(1.0, 2 * log(n) / n) if n > 1 else 1.0
        p = usual if self.p is None else self.p
        for draw in range(_DRAWS):
            upper = np.triu(np.random.default_rng([self.seed, draw]).random((n, n)) < p, k=1)
            adjacency = upper | upper.T
            if _is_connected(adjacency):
                return adjacency
        raise self._refuse(f"found no connected graph with p={p} over {n} workers; the usual p is {usual:.3g}")


def _is_connected(adjacency: np.ndarray) -> bool:
    reached = np.zeros(len(adjacency), dtype=bool)
    frontier = ~reached
    frontier[1:] = False
    while frontier.any():
        reached |= frontier
        frontier = adjacency[frontier].any(axis=0) & ~reached
    return bool(reached.all())
