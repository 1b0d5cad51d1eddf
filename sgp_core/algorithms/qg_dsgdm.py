"""Quasi-global momentum: a momentum of what the network did, rather than of one worker's gradients.

Lin, Karimireddy, Stich, Jaggi, "Quasi-Global Momentum: Accelerating Decentralized Deep Learning on Heterogeneous Data",
ICML 2021, Algorithm 1 (QG-DSGDm; with Nesterov's form QG-DSGDm-N).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Traits
from sgp_core.algorithms.dpsgd import PlainGossip
from sgp_core.algorithms.momentum import RATE, check_share, rescaling
from sgp_core.algorithms.worker import Worker


@ALGORITHMS.register("qg_dsgdm")
@dataclass(frozen=True)
class QuasiGlobalMomentum(PlainGossip):
    """A step along ``g + beta m``, plain gossip, and a momentum ``m`` of how far both together moved the worker::

        x_i' = x_i - lr (g_i + beta m_i)                  (nesterov: x_i - lr ((1 + beta) g_i + beta^2 m_i))
        x_i^+ = sum_j W_ij x_j'
        m_i <- mu m_i + (1 - mu) (x_i - x_i^+) / lr

    ``-lr g`` is the step of the user's optimizer. It is the published algorithm for ``torch.optim.SGD`` without
    momentum, weight decay being part of ``g``; optimizers that are known to have a momentum are refused. ``v = lr m``
    is kept, and rescaled when the rate changes. At rate 0 it only decays, since nothing is known of ``m`` then. No byte
    more is sent than by ``dpsgd``.

    Args:
        beta: momentum of the step.
        mu: share of the old momentum in the new.
        nesterov: Nesterov's form of the step.
    """

    traits: ClassVar[Traits] = Traits(own_momentum=True)

    beta: float = 0.9
    mu: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_share("qg_dsgdm", "beta", self.beta)
        check_share("qg_dsgdm", "mu", self.mu)

    def before_step(self, worker: Worker) -> None:
        worker.memory("before").copy_(worker.params)

    def after_step(self, worker: Worker) -> None:
        x, v = worker.params, worker.memory("momentum")
        strength = self.beta * rescaling(worker)
        if self.nesterov:
            x.mul_(1.0 + self.beta).add_(worker.memory("before"), -self.beta)
            strength *= self.beta
        x.add_(v, -strength)
        super().after_step(worker)

    def receive(self, worker: Worker) -> None:
        super().receive(worker)
        v = worker.memory("momentum")
        if worker.lr > 0.0:
            v.mul_(self.mu * rescaling(worker)).add_(worker.memory("before"), 1.0 - self.mu)
            v.add_(worker.params, self.mu - 1.0)
            worker.set_number(RATE, worker.lr)
        else:
            v.mul_(self.mu)
