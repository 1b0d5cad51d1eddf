"""Regions with a thin link between them: dense gossip inside, and now and then a few pairs across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, lcm

import numpy as np

from sgp_core.topology.base import TOPOLOGIES, MatrixTopology, Topology
from sgp_core.topology.base_k import Round, base_rounds, matrix_of

_MOST_SHIFTS = 4


@TOPOLOGIES.register("regions")
@dataclass(frozen=True)
class Regions(MatrixTopology):
    """Ranks in a row form regions, which average inside for some steps; then ``cross_peers`` pairs of two regions mix.

    Inside, each region goes through its ``base_k`` schedule of degree ``peers``, which ends with its exact mean. At
    every ``cross_every``-th step two regions are linked by ``cross_peers`` pairs, others at later ones, as ``base_k``
    links workers; all other workers have nothing to send then. Which workers are paired shifts from one crossing to the
    next, through at most four sets, which keeps the period short. All matrices are symmetric.

    A pair exchanges the share w = ``cross_weight`` of the models, less where less is exact. If the regions, of s
    workers each, hold their exact means before a crossing of c pairs, the distance between two means falls by the
    factor 1 - 2 w c / s, at 2 c messages over the link between them.

    Args:
        regions: their number, as equal as possible; each has at least one worker.
        sizes: their sizes in place of that.
        cross_every: steps from one crossing to the next; None: the steps to the exact means inside, and one more.
        cross_peers: pairs between two regions at a crossing.
        cross_weight: below 1, so that each worker keeps a part of its own.
        peers: how many others a worker exchanges with inside its region, at most.
    """

    regions: int = 2
    sizes: list[int] | None = None
    cross_every: int | None = None
    cross_peers: int = 1
    cross_weight: float = 0.5
    peers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("regions", "cross_peers", "peers"):
            self._check_whole(option, at_least=1)
        if self.sizes is not None and (min(self.sizes, default=0) < 1 or sum(self.sizes) != self.world_size):
            given = " + ".join(map(str, self.sizes)) or "none"
            raise self._refuse(f"needs sizes of at least 1 that sum to {self.world_size} workers, not {given}")
        if not 0 < self.cross_weight < 1:
            raise self._refuse(f"needs cross_weight to lie between 0 and 1, not {self.cross_weight}")
        if self.cross_peers > min(self.region_sizes):
            raise self._refuse(
                f"needs cross_peers of at most {min(self.region_sizes)}, the workers of the smallest region, not"
                f" {self.cross_peers}"
            )
        if self.cross_every is not None:
            self._check_whole("cross_every", at_least=1 if max(self.region_sizes) == 1 else 2)

    @cached_property
    def region_sizes(self) -> tuple[int, ...]:
        """The workers of each region; region r holds the ranks that follow those of region r - 1."""
        if self.sizes is not None:
            return tuple(self.sizes)
        n, count = self.world_size, min(self.regions, self.world_size)
        return tuple(n * (region + 1) // count - n * region // count for region in range(count))

    @property
    def period(self) -> int:
        """Steps until pairs inside and across are as at first."""
        if len(self.region_sizes) == 1:
            return max(len(self._inside[0]), 1)
        unfinished = [
            len(rounds) // gcd(len(rounds), self._between) for rounds in self._inside if len(rounds) > self._between
        ]
        return (self._between + 1) * lcm(len(self._across), self._shifts, *unfinished)

    def mixing_matrix(self, step: int) -> np.ndarray:
        return matrix_of(self._edges_at(step), self.world_size)

    @property
    def is_doubly_stochastic(self) -> bool:
        return True

    def _edges_at(self, step: int) -> Round:
        cycle, place = divmod(step, self._between + 1)
        if len(self.region_sizes) > 1 and place == self._between:
            return self._crossing(cycle)
        edges: Round = []
        for rounds in self._inside:
            # a schedule that fits between two crossings begins anew after each, any other goes on
            passed = place if 0 < len(rounds) <= self._between else cycle * self._between + place
            if len(self.region_sizes) == 1:
                passed = step
            edges += rounds[passed % len(rounds)] if rounds else []
        return edges

    def _crossing(self, number: int) -> Round:
        """Return the pairs of one crossing."""
        edges: Round = []
        for one, other, share in self._across[number % len(self._across)]:
            sizes = self.region_sizes[one], self.region_sizes[other]
            exact = 2 * share * sizes[0] * sizes[1] / (self.cross_peers * sum(sizes))
            first = number % self._shifts * self.cross_peers
            for pair in range(first, first + self.cross_peers):
                place = pair % min(self.region_sizes)
                edges.append((self._starts[one] + place, self._starts[other] + place, min(self.cross_weight, exact)))
        return edges

    @property
    def _shifts(self) -> int:
        """Sets of workers that take the crossings in turn."""
        least = min(self.region_sizes)
        return min(least // gcd(least, self.cross_peers), _MOST_SHIFTS)

    @cached_property
    def _between(self) -> int:
        """Steps inside regions between two crossings."""
        return (max(map(len, self._inside)) + 1 if self.cross_every is None else self.cross_every) - 1

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(sum(self.region_sizes[:region]) for region in range(len(self.region_sizes)))

    @cached_property
    def _inside(self) -> list[list[Round]]:
        """The schedule of each region."""
        pairs = zip(self._starts, self.region_sizes, strict=True)
        return [base_rounds(range(start, start + size), self.peers) for start, size in pairs]

    @cached_property
    def _across(self) -> list[Round]:
        """The schedule of the regions, as if each were a worker."""
        return base_rounds(range(len(self.region_sizes)), 1)


def messages_across(topology: Topology, sizes: Sequence[int], horizon: int = 64) -> float:
    """Return the messages a step that go from one region to another, all workers and both ways together.

    Args:
        sizes: workers of each region, whose ranks are in a row.
        horizon: steps looked at where ``topology`` has no period.
    """
    region = np.repeat(np.arange(len(sizes)), sizes)
    steps = range(topology.period or horizon)
    crossing = region[:, None] != region
    return float(np.mean([np.count_nonzero((topology.mixing_matrix(step) != 0) & crossing) for step in steps]))
