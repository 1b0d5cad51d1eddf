"""Chebyshev-accelerated gossip: k rounds of a symmetric graph as the best polynomial of its mixing matrix.

In the language of graph filters the eigenvectors of P are the graph's components, and its eigenvalues say what a round
does to each: k plain rounds multiply the component of eigenvalue lambda by lambda^k. With the same messages, and one
more vector in memory, k rounds can instead multiply it by

    T_k(lambda / rho) / T_k(1 / rho),

T_k the Chebyshev polynomial and rho the second largest |eigenvalue|. It is 1 at lambda = 1, so the mean stays, and of
all polynomials of degree k with that property its largest value over [-rho, rho] is the least: 1 / T_k(1 / rho). The
rounds to a precision grow with 1 / sqrt(gap) instead of 1 / gap. The recurrence is that of Arioli and Scott, Numerical
Algorithms 66, 2014, which Scaman et al., ICML 2017, use as accelerated gossip; Montijano, Montijano and Sagues, arXiv
1111.4825, study it for consensus. Berthier, Bach and Gaillard, SIAM J. Math. Data Sci., 2020, need no eigenvalue.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import acosh, ceil, cosh, log

import numpy as np

from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology

_ROUND_OFF = 1e-12
"""Eigenvalues below this are zero up to round-off."""


def check_symmetric(topology: Topology, what: str = "Chebyshev acceleration") -> None:
    """Refuse a topology whose rounds are not powers of one symmetric matrix.

    Raises:
        ConfigurationError: it is directed or changes with time.
    """
    if not topology.is_symmetric_and_fixed:
        raise ConfigurationError(
            f"{what} needs symmetric mixing weights that never change, and those of topology '{topology.name}' are"
            " directed or change with the step; use ring, torus, hypercube, complete, star or spanning_tree, with"
            " metropolis weights if irregular"
        )


def second_modulus(topology: Topology) -> float:
    """Return rho, the second largest |eigenvalue| of a symmetric graph's matrix; 0 for one worker.

    Raises:
        ConfigurationError: the graph is directed or changes with time.
    """
    check_symmetric(topology)
    moduli = np.sort(np.abs(np.linalg.eigvalsh(topology.mixing_matrix(0))))
    return float(moduli[-2]) if len(moduli) > 1 and moduli[-2] > _ROUND_OFF else 0.0


def weights(rho: float) -> Iterator[float]:
    """Yield w_1, w_2, ... of x_j = w_j (P x_{j-1} - x_{j-2}) + x_{j-2}; w_1 = 1, as there is no x_{-1}."""
    yield 1.0
    weight = 2.0  # w_2 = 2 / (2 - rho^2)
    while True:
        weight = 1 / (1 - rho * rho * weight / 4)
        yield weight


def gain(eigenvalues: np.ndarray, rounds: int, rho: float) -> np.ndarray:
    """Return T_k(lambda / rho) / T_k(1 / rho) for k = ``rounds``, by the recurrence: what is left of each component."""
    before, now = np.zeros_like(eigenvalues), np.ones_like(eigenvalues)
    for _, weight in zip(range(rounds), weights(rho), strict=False):
        before, now = now, weight * (eigenvalues * now - before) + before
    return now


def worst_gain(rho: float, rounds: int) -> float:
    """Return 1 / T_k(1 / rho): the most that is left of any component but the mean after k = ``rounds`` rounds."""
    if rounds == 0 or rho == 0:
        return float(rounds == 0)
    exponent = rounds * acosh(1 / rho)
    return 1 / cosh(exponent) if exponent < 700 else 0.0


def rounds_to(rho: float, precision: float) -> int:
    """Return the least k with 1 / T_k(1 / rho) <= ``precision``; 1 where rho is 0."""
    return 1 if rho == 0 else max(1, ceil(acosh(1 / precision) / acosh(1 / rho) - 1e-9))


def plain_rounds_to(rho: float, precision: float) -> int:
    """Return the least k with rho^k <= ``precision``: what plain rounds take."""
    return 1 if rho == 0 else max(1, ceil(log(precision) / log(rho) - 1e-9))
