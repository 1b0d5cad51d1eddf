"""D-PSGD: decentralised SGD by plain neighbour averaging.

Lian et al., "Can Decentralized Algorithms Outperform Centralized Algorithms?", NeurIPS 2017. Here
the average is taken after the local step, as in SGP, so that the two differ in the weights alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Worker
from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology


@ALGORITHMS.register("dpsgd")
@dataclass(frozen=True)
class DPSGD(Algorithm):
    """A local step, then ``x_i <- sum_j W_ij x_j`` with W doubly stochastic: no weights, no de-biasing.

    On a graph whose rows do not sum to 1 the workers would agree on a biased mean, so such graphs are refused.
    """

    def check(self, topology: Topology) -> None:
        super().check(topology)
        if not topology.is_doubly_stochastic:
            raise ConfigurationError(
                f"algorithm '{ALGORITHMS.name_of(type(self))}' needs mixing weights whose rows and columns both sum to"
                " 1, and this topology's rows do not; use algorithm 'sgp', a regular graph, or metropolis weights"
            )

    def after_step(self, worker: Worker) -> None:
        worker.network.post(worker.params, worker.step)

    def receive(self, worker: Worker) -> None:
        worker.network.mix(worker.params, worker.step)
