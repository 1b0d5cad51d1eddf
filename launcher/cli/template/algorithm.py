"""An algorithm: SGP that goes only part of the way to its neighbours' average."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.algorithms import ALGORITHMS, Worker
from sgp_core.algorithms.sgp import SGP
from sgp_core.errors import ConfigurationError


@ALGORITHMS.register("damped_sgp")
@dataclass(frozen=True)
class DampedSGP(SGP):
    """SGP whose mixing matrix is ``(1 - gamma) I + gamma P``: numerator ``x`` and weight ``w`` keep part of their own.

    The columns of that matrix sum to 1, too, so the sums of ``x`` and ``w`` are conserved on any graph.
    """

    gamma: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gamma <= 1 or self.overlap_steps or self.traits.sends_ahead:
            raise ConfigurationError(
                "algorithm 'damped_sgp' needs 0 < gamma <= 1, overlap_steps=0 and order=adapt_then_combine"
            )

    def receive(self, worker: Worker) -> None:
        """Mix, and keep ``1 - gamma`` of what was there before."""
        x, kept = worker.params, worker.memory("kept").copy_(worker.params)
        weight = worker.network.mix(x, worker.step, worker.weight if worker.biased else None)
        x.mul_(self.gamma).add_(kept, 1 - self.gamma)
        if worker.biased:
            worker.weight = self.gamma * weight + (1 - self.gamma) * worker.weight
            x.div_(worker.weight)
