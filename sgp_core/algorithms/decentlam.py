"""DecentLaM: decentralised momentum SGD whose momentum does not amplify the differences between workers' data.

Yuan, Chen, Huang, Zhang, Pan, Xu, Yin, "DecentLaM: Decentralized Momentum SGD for Large-Batch Deep Training",
ICCV 2021, Algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Traits
from sgp_core.algorithms.dpsgd import PlainGossip
from sgp_core.algorithms.momentum import RATE, check_share, rescaling
from sgp_core.algorithms.worker import Worker


@ALGORITHMS.register("decentlam")
@dataclass(frozen=True)
class DecentLaM(PlainGossip):
    """Heavy-ball momentum of D-PSGD's whole move, gossip included::

        g~_i = (x_i - sum_j W_ij (x_j - lr g_j)) / lr
        m_i <- beta m_i + g~_i
        x_i <- x_i - lr m_i                               that is, sum_j W_ij (x_j - lr g_j) - lr beta m_i

    ``-lr g`` is the step of the user's optimizer. It is the published algorithm for ``torch.optim.SGD`` without
    momentum, weight decay being part of ``g``; optimizers that are known to have a momentum are refused. ``v = lr m``,
    the latest move, is kept, and rescaled when the rate changes; at rate 0 the rule is gossip alone, and ``v`` decays.

    W must be symmetric and the same at every step. Without gradients, the part of the models that W multiplies by ``w``
    moves by ``x^{t+1} = w x^t + beta (x^t - x^{t-1})``, and both roots of ``s^2 - (w + beta) s + beta`` lie within the
    unit circle for every ``w`` below 1 of such a W. For the complex ones of directed graphs, and for products of
    different W, they need not, and the workers part without bound: already on ``exponential`` of 4.

    Args:
        beta: momentum.
    """

    traits: ClassVar[Traits] = Traits(own_momentum=True, one_exact_round=True, one_symmetric_graph=True)

    beta: float = 0.9

    def __post_init__(self) -> None:
        check_share("decentlam", "beta", self.beta)

    def before_step(self, worker: Worker) -> None:
        worker.memory("before").copy_(worker.params)

    def receive(self, worker: Worker) -> None:
        super().receive(worker)
        x, v = worker.params, worker.memory("momentum")
        if worker.lr > 0.0:
            x.add_(v, -self.beta * rescaling(worker))
            v.copy_(worker.memory("before")).add_(x, -1.0)
            worker.set_number(RATE, worker.lr)
        else:
            v.mul_(self.beta)
