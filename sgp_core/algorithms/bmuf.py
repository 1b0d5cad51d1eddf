"""BMUF: blockwise model-update filtering.

Chen, Huo, "Scalable training of deep learning machines by incremental block training with intra-block parallel
optimization and blockwise model-update filtering", ICASSP 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.algorithms.base import OUTERS, Outer, average_exactly
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError


@OUTERS.register("bmuf")
@dataclass(frozen=True)
class BMUF(Outer):
    """Every ``tau`` base steps, with block momentum eta and block learning rate zeta::

        G(t) = mean_i x_i - W_g(t-1)         Delta(t) = eta Delta(t-1) + zeta G(t)
        W(t) = W(t-1) + Delta(t)             W_g(t) = W(t)                     (classical block momentum)
                                             W_g(t) = W(t) + eta Delta(t)      (Nesterov block momentum)

    Workers start the next block from ``W_g(t)``.
    """

    momentum: float = 0.5
    lr: float = 1.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.momentum < 1.0:
            raise ConfigurationError(f"outer 'bmuf': momentum must lie in [0, 1), not {self.momentum}")
        if self.lr <= 0.0:
            raise ConfigurationError(f"outer 'bmuf': lr must be positive, not {self.lr}")

    def outer_step(self, worker: Worker) -> None:
        average_exactly(worker)
        x, w_g, delta = worker.params, worker.memory("anchor"), worker.memory("block_update")
        look_ahead = self.momentum if self.nesterov else 0.0
        w = w_g  # the two memories share one place: W(t-1) is W_g(t-1) less the look-ahead that made it
        block_gradient = x.add_(w_g, -1.0)
        w.add_(delta, -look_ahead)
        delta.mul_(self.momentum).add_(block_gradient, self.lr)
        x.copy_(w).add_(delta, 1.0 + look_ahead)
