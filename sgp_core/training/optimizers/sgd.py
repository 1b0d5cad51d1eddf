"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.training.optimizers.base import OPTIMIZERS
from sgp_core.training.optimizers.eager import eager
from sgp_core.training.optimizers.implementation import TorchImplementation
from sgp_core.validation import below_one, require

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


@OPTIMIZERS.register("sgd")
@dataclass(frozen=True)
class Sgd(TorchImplementation):
    """SGD with (Nesterov) momentum, as torch.optim.SGD: ``v <- mu v + g``, ``x <- x - lr (g + mu v)``."""

    momentum: float = 0.9
    """Momentum ``mu``; 0 is plain SGD."""
    nesterov: bool = True
    """Nesterov's form of momentum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        below_one("optimizer.momentum", self.momentum)
        if self.nesterov:
            require(self.momentum > 0, "optimizer.momentum", "positive when optimizer.nesterov=true", self.momentum)

    def build(self, model: nn.Module) -> Optimizer:
        """Return torch.optim.SGD over the trainable parameters of ``model``."""
        from torch.optim import SGD

        return eager(SGD)(
            self.parameter_groups(model),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            **self.implementation(),
        )
