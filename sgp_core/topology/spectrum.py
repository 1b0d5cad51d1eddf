"""A topology as a graph filter: its spectrum, and what k rounds leave of each component.

The components of a symmetric graph are the eigenvectors of its mixing matrix; a round multiplies component i by its
eigenvalue lambda_i, k rounds by lambda_i^k: a low-pass filter that keeps the mean, lambda = 1. For graphs that change
with the step, the matrix is the product of a period. Eigenvalues of directed graphs are complex, and say how a
component turns while it fades; those of circulant graphs (all ranks send alike) belong to waves around the ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sgp_core.topology import chebyshev
from sgp_core.topology.analysis import distance_to_mean, product
from sgp_core.topology.base import Topology

_ROUND_OFF = 1e-8
"""Eigenvalues this close to each other are one: those of defective matrices are known to half the digits only."""


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues of one period.

    Attributes:
        eigenvalues: of the product of a period's matrices, ``[n]`` complex, the 1 of the mean first, then by falling
            modulus.
        period: rounds in a period.
        rho: the second largest modulus, for graphs that the Chebyshev recurrence can accelerate; None for others.
    """

    eigenvalues: np.ndarray
    period: int
    rho: float | None

    def response(self, periods: int) -> np.ndarray:
        """Return |lambda_i|^k: what k periods of plain rounds leave of each component, ``[n]``."""
        return np.abs(self.eigenvalues) ** periods

    def accelerated(self, rounds: int) -> np.ndarray | None:
        """Return |T_k(lambda_i / rho) / T_k(1 / rho)|; None for graphs that cannot be accelerated."""
        if self.rho is None:
            return None
        return np.abs(chebyshev.gain(self.eigenvalues.real, rounds, self.rho))

    def distinct(self) -> list[tuple[complex, int]]:
        """Return each eigenvalue with its multiplicity, the complex ones of positive imaginary part for both."""
        folded = np.where(self.eigenvalues.imag < 0, self.eigenvalues.conj(), self.eigenvalues)
        found: list[tuple[complex, int]] = []
        for value in folded[np.lexsort((folded.imag, -folded.real, -np.abs(folded).round(9)))]:
            if found and abs(value - found[-1][0]) < _ROUND_OFF:
                found[-1] = found[-1][0], found[-1][1] + 1
            else:
                found.append((complex(value), 1))
        return found


def spectrum(topology: Topology) -> Spectrum | None:
    """Return the spectrum of a period; None where there is no period."""
    if topology.period is None:
        return None
    matrix = product(topology, topology.period)
    values = np.linalg.eigvalsh(matrix) if np.allclose(matrix, matrix.T, rtol=0, atol=1e-12) else None
    values = np.linalg.eigvals(matrix) if values is None else values
    values = np.where(np.abs(values) < _ROUND_OFF, 0, values).astype(complex)
    values = values[np.argsort(np.abs(values - 1) > _ROUND_OFF, kind="stable")]  # the mean first
    rest = values[1:]
    values[1:] = rest[np.argsort(-np.abs(rest), kind="stable")]
    rho = chebyshev.second_modulus(topology) if topology.is_symmetric_and_fixed else None
    return Spectrum(values, topology.period, rho)


def left_after(topology: Topology, rounds: tuple[int, ...]) -> list[float]:
    """Return ||Pi(k) - J||_2 for each k of ascending ``rounds``: the most that k rounds leave of any difference."""
    left, matrix = [], np.eye(topology.world_size)
    for before, after in pairwise((0, *rounds)):
        matrix = product(topology, after - before, before) @ matrix
        left.append(distance_to_mean(matrix))
    return left
