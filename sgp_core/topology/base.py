"""A topology is a graph that is a pure function of the step, the same on every rank, with a weight on every edge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache

import numpy as np

from sgp_core.errors import ConfigurationError
from sgp_core.registry import NOT_AN_OPTION, Registry

TOPOLOGIES: Registry[Topology] = Registry("topology", "sgp_core.topology")
"""Every topology by name. A new one is one file in this package."""


class Weights(str, Enum):
    """How edges are weighted where the topology does not fix the weights itself."""

    uniform = "uniform"
    """Each sender splits its mass evenly over itself and its out-peers: 1 / (out-degree + 1). Columns sum to 1."""
    metropolis = "metropolis"
    """1 / (1 + max(deg i, deg j)) on an undirected graph; rows and columns sum to 1."""


@dataclass(frozen=True)
class Topology(ABC):
    """A (time-varying) directed graph over ``world_size`` workers with column-stochastic mixing weights.

    One method is required: :meth:`out_neighbors`. Everything else follows from it.
    """

    world_size: int = field(metadata=NOT_AN_OPTION)

    def __post_init__(self) -> None:
        if self.world_size < 1:
            raise ConfigurationError(f"world_size must be at least 1, not {self.world_size}")

    # -- what a topology says -------------------------------------------------------------------------------------
    @property
    def period(self) -> int | None:
        """Steps after which the sequence of graphs repeats; None if it never does (random graphs)."""
        return 1

    @abstractmethod
    def out_neighbors(self, rank: int, step: int) -> Sequence[int]:
        """Return the ranks that ``rank`` sends to at ``step``: distinct, never ``rank`` itself."""

    # -- what follows ---------------------------------------------------------------------------------------------
    ...
