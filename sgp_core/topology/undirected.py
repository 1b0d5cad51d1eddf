"""Undirected graphs: every edge carries a message each way, under uniform or Metropolis weights."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from sgp_core.topology.base import Topology


class Weights(str, Enum):
    """How a worker divides its mass over itself and its peers."""

    uniform = "uniform"
    metropolis = "metropolis"


@dataclass(frozen=True)
class UndirectedTopology(Topology):
    """A fixed undirected graph: ``j in out_neighbors(i)`` exactly when ``i in out_neighbors(j)``.

    ``uniform`` gives every share 1/(degree+1) of the sender, which is doubly stochastic on regular graphs only;
    ``metropolis`` is symmetric, so doubly stochastic, on every graph.
    """

    weights: Weights = Weights.uniform

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("weights", Weights)

    def mixing_matrix(self, step: int) -> np.ndarray:
        matrix = super().mixing_matrix(step)
        return metropolis(matrix != 0) if self.weights is Weights.metropolis else matrix


def metropolis(adjacency: np.ndarray) -> np.ndarray:
    """Return Metropolis-Hastings weights for a symmetric boolean ``adjacency`` ``[n, n]``; its diagonal is ignored.

    ``P[i, j] = 1 / (1 + max(degree_i, degree_j))`` on edges and the rest stays at home.
    """
    edges = adjacency.astype(bool) & ~np.eye(len(adjacency), dtype=bool)
    degree = edges.sum(axis=1)
    matrix = np.where(edges, 1.0 / (1 + np.maximum.outer(degree, degree)), 0.0)
    np.fill_diagonal(matrix, 1.0 - matrix.sum(axis=0))
    return matrix
