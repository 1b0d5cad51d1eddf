"""An algorithm of your own: D-PSGD in the order of its paper, averaging before the step, with a step size gamma.

Lian et al., "Can Decentralized Algorithms Outperform Centralized Algorithms?", NeurIPS 2017, Algorithm 1; the step size
gamma of the average is from Koloskova, Stich, Jaggi, ICML 2019 (CHOCO-SGD).
"""

from dataclasses import dataclass

import torch

import sgp_core
from sgp_core.algorithms import ALGORITHMS, Worker
from sgp_core.algorithms.dpsgd import PlainGossip


@ALGORITHMS.register("average_then_step")
@dataclass(frozen=True)
class AverageThenStep(PlainGossip):  # which refuses graphs that are not doubly stochastic
    """``x_i <- x_i + gamma sum_j W_ij (x_j - x_i) + (step of the user's optimizer at x_i)``."""

    gamma: float = 1.0

    def before_step(self, worker: Worker) -> None:
        worker.memory("before").copy_(worker.params)

    def after_step(self, worker: Worker) -> None:
        x, before = worker.params, worker.memory("before")
        worker.memory("rest").copy_(x).add_(before, -self.gamma)  # the step, and what is not averaged
        x.copy_(before)
        super().after_step(worker)

    def receive(self, worker: Worker) -> None:
        super().receive(worker)
        worker.params.mul_(self.gamma).add_(worker.memory("rest"))


if __name__ == "__main__":
    # 16 virtual workers on a ring; worker i pulls towards its own target b_i
    targets = torch.arange(16.0).unsqueeze(1)
    ring = sgp_core.build_topology("ring", world_size=16)
    for algorithm in (sgp_core.build_algorithm("dpsgd"), sgp_core.build_algorithm("average_then_step", gamma=0.5)):
        run = sgp_core.simulate(algorithm, ring, torch.zeros(16, 1), lambda z, step: z - targets, steps=96)
        print(f"{type(algorithm).__name__:15}", [f"{run.consensus_distance[step]:.3f}" for step in (24, 48, 72, 96)])
