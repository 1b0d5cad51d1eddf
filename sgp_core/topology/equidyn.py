"""One-peer EquiDyn: a random hop a step, with a rate that does not depend on n (Song et al., NeurIPS 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from sgp_core.topology.base import TOPOLOGIES, MatrixTopology


class EdgeDirection(str, Enum):
    """OD-EquiDyn (send one way) or OU-EquiDyn (pairs)."""

    directed = "directed"
    undirected = "undirected"


@TOPOLOGIES.register("equidyn")
@dataclass(frozen=True)
class EquiDyn(MatrixTopology):
    """P = (1 - eta) I + eta A(u), u a hop drawn uniformly from 1..n-1 at each step, the same on every rank.

    Directed: A(u) sends (n-1)/n of a worker to r + u and keeps 1/n. Undirected: going round from a random start, r and
    r + u are paired if both are free and exchange (n-1)/n; who stays free idles.
    """

    direction: EdgeDirection = EdgeDirection.directed
    eta: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("direction", EdgeDirection)
        self._check_whole("seed", at_least=0)
        if not 0 < self.eta <= 1:
            raise self._refuse(f"needs eta to lie in (0, 1], not {self.eta}")

    @property
    def period(self) -> None:
        """None: the hops are random."""
        return None

    def mixing_matrix(self, step: int) -> np.ndarray:
        n = self.world_size
        matrix = np.eye(n)
        if n == 1:
            return matrix
        draws = np.random.default_rng([self.seed, step])
        hop, start = int(draws.integers(1, n)), int(draws.integers(n))
        share = self.eta * (n - 1) / n
        free = [True] * n
        for sender in ((start + i) % n for i in range(n)):
            receiver = (sender + hop) % n
            if self.direction is EdgeDirection.directed:
                matrix[[sender, receiver], sender] = 1 - share, share
            elif free[sender] and free[receiver]:
                free[sender] = free[receiver] = False
                matrix[[sender, receiver], [sender, receiver]] = 1 - share
                matrix[[receiver, sender], [sender, receiver]] = share
        return matrix

    @property
    def is_doubly_stochastic(self) -> bool:
        return True
