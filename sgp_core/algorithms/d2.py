"""D2: decentralised SGD that takes the differences between workers' data out of its steps.

Tang, Lian, Yan, Zhang, Liu, "D2: Decentralized Training over Decentralized Data", ICML 2018, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Worker
from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology

_LEAST = -1.0 / 3.0
_ROUND_OFF = 1e-9


@ALGORITHMS.register("d2")
@dataclass(frozen=True)
class D2(Algorithm):
    """Each step undoes what the gossip of the last one has moved, and so the part of the gradient that is local::

        x^{t+1} = W (2 x^t - x^{t-1} - lr_t g_t + lr_{t-1} g_{t-1}),        x^1 = W (x^0 - lr_0 g_0)

    In the form used here, with the step ``U_t`` of the user's optimizer and ``c_t`` the sum of the moves by gossip::

        x^{t+1} = W (x^t + U_t + c_t),        c_{t+1} = x^{t+1} - (x^t + U_t),        c_0 = 0

    For ``torch.optim.SGD`` without momentum these are the paper's iterates, whatever the schedule. With momentum, Adam or
    clipping ``U`` stands in place of ``-lr g``. The sum of ``c`` over the workers is 0, so an outer may move the models.

    W must be symmetric, the same at every step, and its eigenvalues above -1/3, or the iterates grow without bound.
    ``lazy`` takes ``(W + I) / 2`` in its place, whose eigenvalues are not negative, at a third vector of memory.

    Args:
        lazy: whether workers keep half of their own.
    """

    one_exact_round: ClassVar[bool] = True

    lazy: bool = False

    def check(self, topology: Topology) -> None:
        matrix = topology.mixing_matrix(0)
        if topology.period != 1 or not np.allclose(matrix, matrix.T, rtol=0, atol=1e-12):
            raise ConfigurationError(
                "algorithm 'd2' needs symmetric mixing weights that never change, and this topology's are not; use ring,"
                " torus, hypercube, complete, star or spanning_tree, with metropolis weights where there is a choice"
            )
        least = float(np.linalg.eigvalsh(matrix)[0])
        if not self.lazy and least <= _LEAST + _ROUND_OFF:
            raise ConfigurationError(
                f"algorithm 'd2' needs mixing weights whose eigenvalues are above -1/3, and this topology's least is"
                f" {least:.3f}; use algorithm.lazy=true, or another topology"
            )

    def after_step(self, worker: Worker) -> None:
        x, c = worker.params, worker.memory("correction")
        x.add_(c)
        c.add_(x, -1.0)  # - (x^t + U_t)
        if self.lazy:
            worker.memory("sent").copy_(x)
        worker.network.post(x, worker.step)

    def receive(self, worker: Worker) -> None:
        x = worker.params
        worker.network.mix(x, worker.step)
        if self.lazy:
            x.add_(worker.memory("sent")).mul_(0.5)
        worker.memory("correction").add_(x)
