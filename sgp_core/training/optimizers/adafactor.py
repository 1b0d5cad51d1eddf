"""Adafactor (Shazeer & Stern 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.training.optimizers.base import OPTIMIZERS, OptimizerOptions
from sgp_core.training.optimizers.eager import eager
from sgp_core.validation import not_negative, require

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


@OPTIMIZERS.register("adafactor")
@dataclass(frozen=True)
class Adafactor(OptimizerOptions):
    """Adafactor: of the squared gradients of a matrix it keeps the means of rows and columns, and no momentum.

    A step is ``lr`` times the root mean square of the parameter, with decoupled weight decay, as in torch.
    """

    lr: float = 0.01
    """Largest learning rate, relative to a parameter's size; the schedule multiplies it. Step t takes at most
    ``1 / sqrt(t)``."""
    beta2_decay: float = -0.8
    """Exponent of the decay of squared gradients: their share of the past at step t is ``1 - t ** beta2_decay``."""
    eps1: float | None = None
    """Added to squared gradients; null: the smallest step of the parameters' numbers."""
    eps2: float = 0.001
    """Least root mean square that a parameter is taken to have."""
    d: float = 1.0
    """Root mean square of an update above which it is scaled down."""
    foreach: bool | None = None
    """Kernels over lists of tensors; null: torch decides."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta2_decay <= 0, "optimizer.beta2_decay", "at most 0", self.beta2_decay)
        if self.eps1 is not None:
            not_negative("optimizer.eps1", self.eps1)
        not_negative("optimizer.eps2", self.eps2)
        require(self.d >= 1, "optimizer.d", "at least 1", self.d)

    def build(self, model: nn.Module) -> Optimizer:
        """Return torch.optim.Adafactor over the trainable parameters of ``model``."""
        from torch import optim

        return eager(optim.Adafactor)(
            self.parameter_groups(model),
            lr=self.lr,
            beta2_decay=self.beta2_decay,
            eps=(self.eps1, self.eps2),
            d=self.d,
            foreach=self.foreach,
        )
