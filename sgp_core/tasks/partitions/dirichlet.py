"""Dirichlet label skew: how unlike the workers' data are is one number, alpha.

Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019,
arXiv:1909.06335; with the scale of alpha of Lin, Karimireddy, Stich, Jaggi, "Quasi-Global Momentum", ICML 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.tasks.partitions.base import PARTITIONS, Assigned
from sgp_core.validation import positive

if TYPE_CHECKING:
    import numpy as np


@PARTITIONS.register("dirichlet")
@dataclass(frozen=True)
class Dirichlet(Assigned):
    """Worker i draws its examples without replacement by class proportions ``q_i ~ Dir(alpha C p)``.

    ``p`` are the proportions of the C classes in the training set: where they are equal, every class has concentration
    ``alpha``. 10 is nearly alike, 1 clearly skewed, and at 0.1 one to three classes are most of what a worker sees.
    Every example is assigned, and all workers get equally many. So the last draws take what is left of classes that a
    worker would not have chosen. All workers draw at the same time, so none has an advantage.
    """

    alpha: float = 0.1
    """Concentration; smaller is more heterogeneous."""

    def __post_init__(self) -> None:
        positive("partition.alpha", self.alpha)

    def deal(
        self, order: np.ndarray, stock: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
    ) -> list[np.ndarray]:
        import numpy as np

        n, c = len(sizes), len(stock)
        concentration = self.alpha * c * stock / stock.sum()
        # log of gamma variates, by Gamma(a) = Gamma(a + 1) U^(1/a): exact where those of a small a would all be 0
        with np.errstate(divide="ignore", over="ignore"):
            log_q = np.log(rng.gamma(concentration + 1, size=(n, c))) + np.log(rng.random((n, c))) / concentration
        log_q = np.maximum(log_q, np.finfo(float).min / 2)
        counts = self._fill(log_q, stock.copy(), sizes.copy(), rng)
        ends = np.cumsum(counts.T.reshape(-1)).reshape(c, n)  # of class after class, worker after worker
        begins = ends - counts.T
        return [
            np.concatenate([order[begin:end] for begin, end in zip(begins[:, rank], ends[:, rank], strict=True)])
            for rank in range(n)
        ]

    @staticmethod
    def _fill(log_q: np.ndarray, stock: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return how many examples of every class each worker gets, ``[n, C]``.

        In every round each worker asks for what it still lacks, by its proportions among the classes that are left;
        what is left of a class that is asked for too often goes to random ones of those who asked. Every round but the
        last uses up a class.
        """
        import numpy as np

        counts = np.zeros(log_q.shape, dtype=np.int64)
        while wanted.any():
            left = np.where(stock > 0, log_q, -np.inf)
            q = np.exp(left - left.max(1, keepdims=True))
            asked = rng.multinomial(wanted, q / q.sum(1, keepdims=True))
            for k in np.flatnonzero(asked.sum(0) > stock):
                asked[:, k] = rng.multivariate_hypergeometric(asked[:, k], stock[k], method="marginals")
            counts += asked
            stock -= asked.sum(0)
            wanted -= asked.sum(1)
        return counts
