"""Grids that wrap around: the two-dimensional torus and the hypercube."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np

from sgp_core.topology.base import TOPOLOGIES
from sgp_core.topology.undirected import UndirectedTopology, Weights


@TOPOLOGIES.register("torus")
@dataclass(frozen=True)
class Torus(UndirectedTopology):
    """``rows x columns`` workers, each exchanging up, down, left and right; the default is the squarest factorisation.

    Under uniform weights each of the four directions carries 1/5. Where a side is 2, up and down (or left and right)
    lead to the same worker: one message carries both shares. A prime ``world_size`` gives ``1 x n``, which is the ring.
    """

    rows: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows is None:
            return
        self._check_whole("rows", at_least=1)
        if self.world_size % self.rows:
            legal = ", ".join(str(d) for d in range(1, self.world_size + 1) if self.world_size % d == 0)
            raise self._refuse(f"needs rows to divide {self.world_size} workers: {legal}, not {self.rows}")

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, columns)."""
        n = self.world_size
        rows = self.rows or next(d for d in range(isqrt(n), 0, -1) if n % d == 0)
        return rows, n // rows

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return [peer for peer in dict.fromkeys(self._directions(rank)) if peer != rank]

    def mixing_matrix(self, step: int) -> np.ndarray:
        if self.weights is Weights.metropolis or min(self.shape) == 1:
            return super().mixing_matrix(step)
        matrix = np.eye(self.world_size) / 5
        for rank in range(self.world_size):
            for peer in self._directions(rank):
                matrix[peer, rank] += 1 / 5
        return matrix

    def drawbacks(self) -> list[str]:
        n = self.world_size
        if min(self.shape) > 1 or n < 5:
            return []
        why = "" if self.rows else f"{n} is prime: "
        return [f"{why}the torus is 1 x {n}, which is the ring"]

    def _directions(self, rank: int) -> list[int]:
        rows, columns = self.shape
        row, column = divmod(rank, columns)
        up_down = [(row + move) % rows * columns + column for move in (1, -1)]
        left_right = [row * columns + (column + move) % columns for move in (1, -1)]
        return [*left_right, *up_down]


@TOPOLOGIES.register("hypercube")
@dataclass(frozen=True)
class Hypercube(UndirectedTopology):
    """Workers whose ranks differ in one bit exchange; powers of two only; spectral gap 2 / (log2 n + 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        n = self.world_size
        if n & (n - 1):
            raise self._refuse_size("needs a power of two", (1 << (n.bit_length() - 1), 1 << n.bit_length()))

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return [rank ^ (1 << bit) for bit in range(self.world_size.bit_length() - 1)]
