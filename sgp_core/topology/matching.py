"""Matchings: at every step the workers form pairs that average with each other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sgp_core.topology.base import TOPOLOGIES, MatrixTopology


@dataclass(frozen=True)
class Matching(MatrixTopology):
    """Both members of a pair take half of each other; a worker without partner idles. Symmetric by construction.

    The required method is :meth:`pairs`.
    """

    @abstractmethod
    def pairs(self, step: int) -> Iterable[tuple[int, int]]:
        """Return the pairs of ``step``: distinct ranks, each in one pair at most."""

    def mixing_matrix(self, step: int) -> np.ndarray:
        matrix = np.eye(self.world_size)
        for a, b in self.pairs(step):
            matrix[[a, a, b, b], [a, b, a, b]] = 0.5
        return matrix

    def drawbacks(self) -> list[str]:
        n = self.world_size
        return [f"{n} is odd: one worker has no partner and idles at each step"] if n % 2 and n > 1 else []

    @property
    def is_doubly_stochastic(self) -> bool:
        return True


@TOPOLOGIES.register("random_matching")
@dataclass(frozen=True)
class RandomMatching(Matching):
    """A fresh uniformly random pairing each step, the same on every rank; with odd n one worker idles."""

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("seed", at_least=0)

    @property
    def period(self) -> None:
        """None: no two steps are related."""
        return None

    def pairs(self, step: int) -> list[tuple[int, int]]:
        order = np.random.default_rng([self.seed, step]).permutation(self.world_size).tolist()
        return list(zip(order[0::2], order[1::2], strict=False))
