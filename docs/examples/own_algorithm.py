"""An algorithm of one's own: gossip at every step, and an exact average every so many steps.

Chen et al., "Accelerating Gossip SGD with Periodic Global Averaging", ICML 2021 (Gossip-PGA).
"""

from dataclasses import dataclass

import torch

import sgp_core
from sgp_core.algorithms import ALGORITHMS, Worker
from sgp_core.algorithms.dpsgd import DPSGD


@ALGORITHMS.register("gossip_pga")
@dataclass(frozen=True)
class GossipPGA(DPSGD):  # a DPSGD, so graphs that are not doubly stochastic are refused
    """A local step; then the exact mean of all workers if ``period`` divides the step count, else gossip."""

    period: int = 16

    def after_step(self, worker: Worker) -> None:
        if (worker.step + 1) % self.period:
            super().after_step(worker)

    def receive(self, worker: Worker) -> None:
        if (worker.step + 1) % self.period == 0:
            worker.network.mean(worker.params)
        else:
            super().receive(worker)


if __name__ == "__main__":
    # 16 virtual workers on a ring; worker i pulls towards its own target b_i
    targets = torch.arange(16.0).unsqueeze(1)
    ring = sgp_core.build_topology("ring", world_size=16)
    for algorithm in (sgp_core.build_algorithm("dpsgd"), sgp_core.build_algorithm("gossip_pga", period=8)):
        run = sgp_core.simulate(algorithm, ring, torch.zeros(16, 1), lambda z, step: z - targets, steps=96)
        print(f"{type(algorithm).__name__:10}", [f"{run.consensus_distance[step]:.3f}" for step in (88, 92, 95, 96)])
