"""DiLoCo: an outer Nesterov optimizer over long stretches of local steps.

Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023, arXiv 2311.08105.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.algorithms.base import OUTERS, Outer, average_exactly
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError


@OUTERS.register("diloco")
@dataclass(frozen=True)
class DiLoCo(Outer):
    """Every ``tau`` base steps (H in the paper) the average displacement is an outer gradient for Nesterov SGD::

        Delta = x_{t,0} - mean_i x_i       m <- momentum m + Delta       x_{t+1,0} = x_{t,0} - lr (Delta + momentum m)

    This is torch.optim.SGD(lr, momentum, nesterov=True) applied to Delta. Meant for ``algorithm=local_sgd`` with
    ``period=0`` and AdamW inside; the inner optimizer's state is each worker's own and is kept.
    """

    tau: int = 50
    lr: float = 0.7
    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.momentum < 1.0:
            raise ConfigurationError(f"outer 'diloco': momentum must lie in [0, 1), not {self.momentum}")
        if self.lr <= 0.0:
            raise ConfigurationError(f"outer 'diloco': lr must be positive, not {self.lr}")

    def outer_step(self, worker: Worker) -> None:
        average_exactly(worker)
        x, x0, m = worker.params, worker.memory("anchor"), worker.memory("outer_momentum")
        delta = x.mul_(-1.0).add_(x0)
        m.mul_(self.momentum).add_(delta)
        delta.mul_(-self.lr).add_(m, -self.lr * self.momentum).add_(x0)
