"""Rounds of gossip by the Chebyshev recurrence: the same exchanges as plain rounds, and two vectors of memory."""

from __future__ import annotations

from collections.abc import Callable

from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology
from sgp_core.topology.chebyshev import second_modulus, weights


class AcceleratedRounds:
    """Mixes k times to T_k(P / rho) / T_k(1 / rho), see :mod:`sgp_core.topology.chebyshev`.

    Args:
        topology: symmetric, and the same at every step.
    """

    def __init__(self, topology: Topology) -> None:
        self._rho = second_modulus(topology)
        self._memory: tuple[FlatVector, FlatVector] | None = None

    def mix(self, x: FlatVector, rounds: int, mix_once: Callable[[int], object]) -> None:
        """Replace ``x`` by its ``rounds``-th iterate; ``mix_once(j)`` replaces it by P x in the round j from 0.

        What x was before the first round is read before that round ends, so a round that was posted is fine.
        """
        if self._memory is None:
            self._memory = x.clone(), x.clone()
        before, now = self._memory  # x_{j-2} and x_{j-1}
        for number, weight in zip(range(rounds), weights(self._rho), strict=False):
            now.copy_(x)
            mix_once(number)
            if number:  # x = weight * P x_{j-1} + (1 - weight) x_{j-2}
                x.mul_(weight)
                x.add_(before, 1 - weight)
            before, now = now, before
