"""Bipartite pairings: even ranks meet odd ranks, one partner a step, and both average."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from sgp_core.topology.base import TOPOLOGIES
from sgp_core.topology.matching import Matching


@dataclass(frozen=True)
class Bipartite(Matching):
    """At step t every even rank r is paired with r + h, h the next odd hop of a cyclic list. Required: :meth:`hops`.

    An odd n is paired as n + 1 workers of which the last does not exist: its partner idles for the step.
    """

    @abstractmethod
    def hops(self) -> Iterable[int]:
        """Return the odd hops in the order in which they are used; read modulo the even number of seats."""

    @cached_property
    def book(self) -> tuple[int, ...]:
        """The hops modulo the number of seats, each once."""
        seats = self._seats
        return tuple(dict.fromkeys(hop % seats for hop in self.hops())) if self.world_size > 1 else ()

    @property
    def period(self) -> int:
        """The number of hops, at least 1."""
        return max(len(self.book), 1)

    def pairs(self, step: int) -> list[tuple[int, int]]:
        if not self.book:
            return []
        hop = self.book[step % self.period]
        pairs = [(even, (even + hop) % self._seats) for even in range(0, self._seats, 2)]
        return [(even, odd) for even, odd in pairs if odd < self.world_size]

    @property
    def _seats(self) -> int:
        return self.world_size + self.world_size % 2


@TOPOLOGIES.register("alternating_ring")
@dataclass(frozen=True)
class AlternatingRing(Bipartite):
    """The ring in pairs: (0,1)(2,3)..., then (1,2)(3,4)...(n-1,0); one partner a step instead of two peers."""

    def hops(self) -> Iterable[int]:
        return (1, -1)


@TOPOLOGIES.register("bipartite_exponential")
@dataclass(frozen=True)
class BipartiteExponential(Bipartite):
    """Partners at +1, -1, then at 1 + 2^i both ways: +3, -3, +5, -5, +9, -9, ..."""

    def hops(self) -> Iterable[int]:
        yield from (1, -1)
        for level in range(1, (self.world_size - 1).bit_length()):
            yield from (1 + (1 << level), -1 - (1 << level))


@TOPOLOGIES.register("bipartite_linear")
@dataclass(frozen=True)
class BipartiteLinear(Bipartite):
    """Partners at every odd hop both ways: +1, -1, +3, -3, ...; meets every worker of the other side."""

    def hops(self) -> Iterable[int]:
        for hop in range(1, self.world_size, 2):
            yield from (hop, -hop)
