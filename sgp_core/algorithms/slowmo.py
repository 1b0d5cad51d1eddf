"""SlowMo: slow momentum over any base algorithm.

Wang, Tantia, Ballas, Rabbat, "SlowMo: Improving Communication-Efficient Distributed SGD with Slow Momentum",
ICLR 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sgp_core.algorithms.base import OUTERS, Outer, average_exactly
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError


class BufferStrategy(str, Enum):
    """What becomes of the base optimizer's momenta at the start of a block."""

    reset = "reset"
    """Set to zero (the paper's choice for SGD with Nesterov momentum)."""
    maintain = "maintain"
    """Keep each worker's own (the paper's choice for Adam)."""
    average = "average"
    """Average exactly over the workers."""


@OUTERS.register("slowmo")
@dataclass(frozen=True)
class SlowMo(Outer):
    """Every ``tau`` base steps, with learning rate g, slow momentum beta and slow learning rate alpha::

        x_{t,tau} <- exact average                      (skipped by exact_average=False, the paper's "noaverage")
        u_{t+1} = beta u_t + (x_{t,0} - x_{t,tau}) / g
        x_{t+1,0} = x_{t,0} - alpha g u_{t+1}

    ``v = g u`` is stored instead of ``u``, rescaled when the learning rate changes: the same iterates without
    a division by a rate that may be 0 (a cosine's end). g is the rate of the block's last step; only ratios of
    rates matter, so parameter groups whose rates share one schedule are all treated exactly.
    """

    alpha: float = 1.0
    beta: float = 0.5
    buffers: BufferStrategy = BufferStrategy.reset
    exact_average: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "buffers", BufferStrategy(self.buffers))
        if not 0.0 <= self.beta < 1.0:
            raise ConfigurationError(f"outer 'slowmo': beta must lie in [0, 1), not {self.beta}")
        if self.alpha <= 0.0:
            raise ConfigurationError(f"outer 'slowmo': alpha must be positive, not {self.alpha}")

    def outer_step(self, worker: Worker) -> None:
        if self.exact_average:
            average_exactly(worker)
        x, x0, v = worker.params, worker.memory("anchor"), worker.memory("slow_momentum")
        g = worker.lr
        if g > 0.0:
            v.mul_(self.beta * g / worker.number("block_lr", default=g)).add_(x0).add_(x, -1.0)
            worker.set_number("block_lr", g)
            x.copy_(x0).add_(v, -self.alpha)
        else:
            v.mul_(self.beta)
            x.copy_(x0)
        if self.buffers is BufferStrategy.reset:
            worker.reset_optimizer()
        elif self.buffers is BufferStrategy.average:
            worker.network.mean(worker.optimizer_buffers())
