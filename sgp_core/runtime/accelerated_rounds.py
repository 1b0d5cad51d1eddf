"""Rounds of gossip by the Chebyshev recurrence: the same exchanges as plain rounds, and two vectors of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
        self._memory: tuple[FlatVector, FlatVector] | None = None  # the iterates before the last one, and a spare
        self._weights: Iterator[float] = iter(())
        self._done = 0

    def begin(self) -> None:
        """Start at the vector as it will be, with k = 0."""
        self._weights, self._done = weights(self._rho), 0

    def once(self, x: FlatVector, mix: Callable[[], object]) -> None:
        """Replace ``x`` by the next iterate; ``mix`` replaces it by P x.

        What x was is read before it mixes, so a round whose messages have been posted is fine.
        """
        if self._memory is None:
            self._memory = x.clone(), x.clone()
        before, spare = self._memory
        spare.copy_(x)
        mix()
        weight = next(self._weights)
        if self._done:  # x = weight * P x_{j-1} + (1 - weight) x_{j-2}
            x.mul_(weight)
            x.add_(before, 1 - weight)
        self._memory, self._done = (spare, before), self._done + 1
