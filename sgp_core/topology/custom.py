"""A graph of the user's own: from a file, or a networkx object."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from sgp_core.registry import NOT_AN_OPTION
from sgp_core.topology.base import TOPOLOGIES, MatrixTopology
from sgp_core.topology.graph_file import adjacency, read_graph
from sgp_core.topology.undirected import metropolis
from sgp_core.topology.validation import validate

_ROUNDING = 1e-5
"""A column this near to 1 was rounded when it was typed; validation refuses what is further off."""


class GraphWeights(str, Enum):
    """Where the mixing weights come from; ``auto`` is ``edges`` if the graph has any weight, else ``uniform``."""

    auto = "auto"
    edges = "edges"
    uniform = "uniform"
    metropolis = "metropolis"


@TOPOLOGIES.register("custom")
@dataclass(frozen=True)
class Custom(MatrixTopology):
    """A fixed graph whose nodes are the ranks 0..n-1; an undirected edge is a message each way.

    The weight of edge u -> v is what v receives of u, ``P[v, u]``. A worker keeps what its out-edges leave of 1, or, if
    it has a self loop, the loop's weight. In a graph without weights a self loop is refused: a share is kept anyway.
    Columns that miss 1 by rounding (six typed digits) are scaled to sum to 1 exactly.
    """

    path: str | None = None
    weights: GraphWeights = GraphWeights.auto
    directed: bool | None = None
    graph: Any = field(default=None, metadata=NOT_AN_OPTION)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("weights", GraphWeights)
        if self.path is None and self.graph is None:
            raise self._refuse("needs topology.path=<a .graphml, .json, .edgelist or .txt file>")
        validate(self)

    def mixing_matrix(self, step: int) -> np.ndarray:
        return self._matrix.copy()

    def content(self) -> str | None:
        """Return a hash of the weights; how a file writes them does not count."""
        rounded = np.round(self._matrix, 12) + 0.0  # zeros have no sign
        return hashlib.sha256(rounded.tobytes()).hexdigest()

    @cached_property
    def _matrix(self) -> np.ndarray:
        where = f"topology '{self.name}'"
        graph = self.graph if self.graph is not None else read_graph(str(self.path), self.directed)
        edges, weights = adjacency(graph, self.world_size, where)
        given = edges & ~np.isnan(weights)
        if self.weights is GraphWeights.edges or (self.weights is GraphWeights.auto and given.any()):
            if (edges & ~given).any():
                sender, receiver = np.argwhere((edges & ~given).T)[0].tolist()
                raise self._refuse(f"has no weight on edge {sender} -> {receiver}; give every edge one, or none")
            matrix = np.where(edges, weights, 0.0)
            no_loop = ~np.diag(edges)
            matrix[no_loop, no_loop] = np.maximum(1.0 - matrix.sum(axis=0)[no_loop], 0.0)
            sums = matrix.sum(axis=0)
            rounded = (np.abs(sums - 1) > 1e-12) & (np.abs(sums - 1) < _ROUNDING)
            return matrix / np.where(rounded, sums, 1.0)
        if (np.diag(edges) & ~np.diag(given)).any():
            node = int(np.flatnonzero(np.diag(edges & ~given))[0])
            raise self._refuse(f"has an edge from node {node} to itself; every worker keeps a share anyway, remove it")
        np.fill_diagonal(edges, False)
        if self.weights is GraphWeights.metropolis:
            if (edges != edges.T).any():
                sender, receiver = np.argwhere(edges.T & ~edges)[0].tolist()
                raise self._refuse(f"has the edge {sender} -> {receiver} but not back: metropolis needs both ways")
            return metropolis(edges)
        return (edges + np.eye(self.world_size)) / (1 + edges.sum(axis=0))
