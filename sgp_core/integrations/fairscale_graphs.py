"""Graphs as fairscale turns them: along the edges of a manager of its own, and only in steps that gossip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgp_core.errors import ConfigurationError
from sgp_core.topology import Topology


@dataclass(frozen=True)
class CountedGossips(Topology):
    """``base``, at the number of steps before that were not the last of a block of ``block`` steps.

    fairscale leaves the gossip of a step out where an exact average follows, and moves on to the next graph only when
    it gossips. The average does not depend on a gossip before it, so one more does no harm, and the graph stays a pure
    function of the step.
    """

    base: Topology
    block: int

    def gossips_before(self, step: int) -> int:
        """Return how many times fairscale has gossiped before ``step``."""
        return step - step // self.block

    @property
    def period(self) -> int | None:
        """Whole blocks, after which ``base`` begins anew."""
        if self.base.period is None:
            return None
        return self.block * self.base.period // math.gcd(self.block - 1, self.base.period)

    def out_neighbors(self, rank: int, step: int) -> Sequence[int]:
        """Return those of ``base``."""
        return self.base.out_neighbors(rank, self.gossips_before(step))

    def mixing_matrix(self, step: int) -> np.ndarray:
        """Return that of ``base``."""
        return self.base.mixing_matrix(self.gossips_before(step))

    @property
    def is_doubly_stochastic(self) -> bool:
        """Whether ``base`` is."""
        return self.base.is_doubly_stochastic


@dataclass(frozen=True)
class RotatingEdges(Topology):
    """The graphs of one of fairscale's ``GraphManager``: each worker walks through a list of peers of its own.

    Its lists may name a peer twice, where ours of the same name do so once, so they have other periods.
    """

    book: tuple[tuple[int, ...], ...]
    peers: int = 1
    rotates: bool = True

    @classmethod
    def of(cls, manager: Any) -> RotatingEdges:
        """Read a manager.

        Raises:
            ConfigurationError: its workers have lists of different lengths, or send to one peer twice in a step.
        """
        size = int(manager.nprocs_per_node)
        book = tuple(tuple(edge.dest // size for edge in edges) for edges in manager.phone_book)
        if len({len(peers) for peers in book}) != 1:
            raise ConfigurationError(f"in {type(manager).__name__} workers have different numbers of peers")
        graph = cls(len(book), book, int(manager.peers_per_itr), bool(manager.is_dynamic_graph()))
        for step in range(graph.period):
            sends = graph.out_neighbors(0, step)
            if len(set(sends)) < len(sends):
                raise ConfigurationError(f"in {type(manager).__name__} a worker sends to a peer twice in step {step}")
        return graph

    @property
    def period(self) -> int:
        """Steps until each worker is where it was in its list."""
        length = len(self.book[0])
        return length // math.gcd(length, self.peers) if self.rotates else 1

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        """Return the next ``peers`` of the list, cyclically."""
        peers = self.book[rank]
        first = step * self.peers if self.rotates else 0
        return [peers[(first + number) % len(peers)] for number in range(self.peers)]
