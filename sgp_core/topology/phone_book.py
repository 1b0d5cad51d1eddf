"""Phone books: every worker walks the same cyclic list of hops, a few entries a step (Assran et al., ICML 2019)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import gcd

from sgp_core.topology.base import TOPOLOGIES, Topology


@dataclass(frozen=True)
class PhoneBook(Topology):
    """At step t every rank r sends to r + h (mod n) for the next ``peers`` hops h of the book, cyclically.

    Hops that lead to the same worker, or home, are listed once, or not at all. All ranks use the same hops, so the
    matrix is circulant and doubly stochastic. The required method is :meth:`hops`.
    """

    peers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("peers", at_least=1)

    @abstractmethod
    def hops(self) -> Iterable[int]:
        """Return the hops in the order in which they are used; any integers, they are read modulo ``world_size``."""

    @cached_property
    def book(self) -> tuple[int, ...]:
        """The hops modulo n, each once and never 0."""
        n = self.world_size
        return tuple(hop for hop in dict.fromkeys(hop % n for hop in self.hops()) if hop)

    @property
    def period(self) -> int:
        """Steps until the book opens at its first page again."""
        entries = len(self.book)
        return entries // gcd(entries, min(self.peers, entries)) if entries else 1

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        entries = len(self.book)
        count = min(self.peers, entries)
        return [(rank + self.book[(step * count + i) % entries]) % self.world_size for i in range(count)]

    @property
    def is_doubly_stochastic(self) -> bool:
        return True


@TOPOLOGIES.register("alternating_exponential")
@dataclass(frozen=True)
class AlternatingExponential(PhoneBook):
    """Forward and back in turn: +1, -1, +2, -2, +4, -4, ...; the graph of the SGP experiments.

    With one peer it averages n = 2^k workers exactly in 2 log2(n) - 1 steps; ``one_peer_exponential`` in log2(n).
    """

    def hops(self) -> Iterable[int]:
        for level in range((self.world_size - 1).bit_length()):
            yield from (1 << level, -(1 << level))


@TOPOLOGIES.register("directed_linear")
@dataclass(frozen=True)
class DirectedLinear(PhoneBook):
    """Every odd hop, forward and back in turn: +1, -1, +3, -3, ..."""

    def hops(self) -> Iterable[int]:
        for hop in range(1, self.world_size, 2):
            yield from (hop, -hop)
