"""Trees: the star, and spanning trees of other shapes. Metropolis weights by default."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from sgp_core.topology.base import TOPOLOGIES
from sgp_core.topology.undirected import UndirectedTopology, Weights


class TreeShape(str, Enum):
    """The tree that is drawn over the ranks."""

    binary = "binary"
    chain = "chain"
    random = "random"


@TOPOLOGIES.register("star")
@dataclass(frozen=True)
class Star(UndirectedTopology):
    """Worker 0 exchanges with every other; spectral gap 1/n under Metropolis weights."""

    weights: Weights = Weights.metropolis

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return list(range(1, self.world_size)) if rank == 0 else [0]


@TOPOLOGIES.register("spanning_tree")
@dataclass(frozen=True)
class SpanningTree(UndirectedTopology):
    """A tree over all workers, rooted at 0: ``binary`` (a heap), ``chain`` (a path) or ``random``.

    A random tree attaches every worker of a seeded order to a worker drawn from those before it.
    """

    weights: Weights = Weights.metropolis
    shape: TreeShape = TreeShape.binary
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("shape", TreeShape)
        self._check_whole("seed", at_least=0)

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return self._neighbors[rank]

    @cached_property
    def _neighbors(self) -> list[list[int]]:
        neighbors: list[list[int]] = [[] for _ in range(self.world_size)]
        for child, parent in self._parents():
            neighbors[child].append(parent)
            neighbors[parent].append(child)
        return neighbors

    def _parents(self) -> list[tuple[int, int]]:
        n = self.world_size
        if self.shape is TreeShape.chain:
            return [(child, child - 1) for child in range(1, n)]
        if self.shape is TreeShape.binary:
            return [(child, (child - 1) // 2) for child in range(1, n)]
        draws = np.random.default_rng(self.seed)
        order = [0, *(1 + draws.permutation(n - 1)).tolist()]
        return [(order[i], order[int(draws.integers(i))]) for i in range(1, n)]
