"""Several topologies side by side, for whatever chooses between them: all workers alike, or they would wait in vain."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import lcm

import numpy as np

from sgp_core.registry import NOT_AN_OPTION
from sgp_core.topology.base import Edges, MatrixTopology, Topology


@dataclass(frozen=True)
class Alternatives(MatrixTopology):
    """Graph number ``m k + c`` is graph k of the c-th of m topologies: a pure function of a number, choice included."""

    topologies: tuple[Topology, ...] = field(default=(), metadata=NOT_AN_OPTION)

    def number(self, choice: int, graph: int) -> int:
        """Return the number of a graph of the topology chosen."""
        return graph * len(self.topologies) + choice

    @property
    def period(self) -> int | None:
        """The least that suits all; None if any has none."""
        periods = [topology.period for topology in self.topologies]
        return None if None in periods else len(periods) * lcm(*(period for period in periods if period))

    def mixing_matrix(self, step: int) -> np.ndarray:
        graph, choice = divmod(step, len(self.topologies))
        return self.topologies[choice].mixing_matrix(graph)

    def edges(self, step: int) -> Edges:
        graph, choice = divmod(step, len(self.topologies))
        return self.topologies[choice].edges(graph)

    @property
    def is_doubly_stochastic(self) -> bool:
        return all(topology.is_doubly_stochastic for topology in self.topologies)
