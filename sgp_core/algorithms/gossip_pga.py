"""Gossip-PGA: gossip, and now and then an exact average of all workers.

Chen, Yuan, Zhang, Pan, Xu, Yin, "Accelerating Gossip SGD with Periodic Global Averaging", ICML 2021, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.algorithms.base import ALGORITHMS, average_numerators
from sgp_core.algorithms.sgp import SGP, form_numerator
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError


@ALGORITHMS.register("gossip_pga")
@dataclass(frozen=True)
class GossipPGA(SGP):
    """A local step; then the exact average if ``period`` (H in the paper) divides the number of steps, else gossip::

        x_i <- mean_j x_j  if H divides k + 1,  else  sum_j P_ij x_j

    The gossip is SGP's, so that any graph will do; on doubly stochastic ones the weights are 1 and this is the paper's
    algorithm. The exact average takes the place of a round and, like an outer's, sets every weight to 1.

    Args:
        period: steps from one exact average to the next.
    """

    period: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.period < 1:
            raise ConfigurationError(f"algorithm 'gossip_pga': period must be at least 1 step, not {self.period}")

    def before_step(self, worker: Worker) -> None:
        if not self._averages_after(worker.step):
            super().before_step(worker)
        elif worker.biased:
            worker.network.scratch().copy_(worker.params)

    def after_step(self, worker: Worker) -> None:
        if not self._averages_after(worker.step):
            super().after_step(worker)
        elif worker.biased:
            form_numerator(worker)

    def receive(self, worker: Worker) -> None:
        if self._averages_after(worker.step):
            average_numerators(worker)
        else:
            super().receive(worker)

    def send_ahead(self, worker: Worker) -> None:
        if not self._averages_after(worker.step):
            super().send_ahead(worker)

    def _averages_after(self, step: int) -> bool:
        return (step + 1) % self.period == 0
