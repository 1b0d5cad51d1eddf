"""D2: decentralised SGD that takes the differences between workers' data out of its steps.

Tang, Lian, Yan, Zhang, Liu, "D2: Decentralized Training over Decentralized Data", ICML 2018, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Traits
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology

if TYPE_CHECKING:
    from sgp_core.tensors.flat_vector import FlatVector

_LEAST = -1.0 / 3.0
_ROUND_OFF = 1e-9


@ALGORITHMS.register("d2")
@dataclass(frozen=True)
class D2(Algorithm):
    """Each step undoes what the gossip of the last one has moved, and so the part of the gradient that is local::

        x^{t+1} = W (2 x^t - x^{t-1} - lr_t g_t + lr_{t-1} g_{t-1}),        x^1 = W (x^0 - lr_0 g_0)

    In the form used here, with the step ``U_t`` of the user's optimizer and ``c_t`` the sum of the moves by gossip::

        x^{t+1} = W (x^t + U_t + c_t),        c_{t+1} = x^{t+1} - (x^t + U_t),        c_0 = 0

    For ``torch.optim.SGD`` without momentum these are the paper's iterates, whatever the schedule. With momentum, Adam
    or clipping ``U`` stands in place of ``-lr g``. The sum of ``c`` over the workers is 0, so an outer may move the
    models.

    W must be symmetric, the same at every step, and its eigenvalues above -1/3, or the iterates grow without bound.

    Args:
        lazy: whether workers keep half of their own: ``(W + I) / 2``, whose eigenvalues are not negative, takes the
            place of W, at a third vector of memory.
        recentre_every: steps after which the mean of ``c`` over all workers is taken off it. It is 0 but for rounding,
            which ``c`` never forgets: in float32 it would push all models one way, a little harder at every step.
            0: never.
    """

    traits: ClassVar[Traits] = Traits(one_exact_round=True, one_symmetric_graph=True)

    lazy: bool = False
    recentre_every: int = 100

    def __post_init__(self) -> None:
        if self.recentre_every < 0:
            raise ConfigurationError(
                f"algorithm 'd2': recentre_every must be 0 (never) or more steps, not {self.recentre_every}"
            )

    def check(self, topology: Topology) -> None:
        super().check(topology)
        least = float(np.linalg.eigvalsh(topology.mixing_matrix(0))[0])
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
        x, c = worker.params, worker.memory("correction")
        worker.network.mix(x, worker.step)
        if self.lazy:
            x.add_(worker.memory("sent")).mul_(0.5)
        c.add_(x)
        if self.recentre_every and (worker.step + 1) % self.recentre_every == 0:
            _recentre(worker, c)


def _recentre(worker: Worker, c: FlatVector) -> None:
    if worker.network.topology.world_size > 1:
        mean = worker.network.scratch()
        mean.copy_(c)
        worker.network.mean(mean)
        c.add_(mean, -1.0)
