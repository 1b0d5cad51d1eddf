"""Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgp_core.training.optimizers.base import OPTIMIZERS
from sgp_core.training.optimizers.eager import eager
from sgp_core.training.optimizers.implementation import TorchImplementation
from sgp_core.validation import below_one, positive

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


@dataclass(frozen=True)
class _AdamOptions(TorchImplementation):
    lr: float = 0.001
    """Base learning rate; the schedule multiplies it."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.999
    """Decay of the mean of squared gradients."""
    eps: float = 1e-8
    """Added to the root of the mean of squares."""

    def __post_init__(self) -> None:
        super().__post_init__()
        below_one("optimizer.beta1", self.beta1)
        below_one("optimizer.beta2", self.beta2)
        positive("optimizer.eps", self.eps)

    def _arguments(self) -> dict[str, Any]:
        return {"lr": self.lr, "betas": (self.beta1, self.beta2), "eps": self.eps, **self.implementation()}


@OPTIMIZERS.register("adam")
@dataclass(frozen=True)
class Adam(_AdamOptions):
    """Adam; its weight decay is an L2 penalty, added to the gradient."""

    def build(self, model: nn.Module) -> Optimizer:
        """Return torch.optim.Adam over the trainable parameters of ``model``."""
        from torch import optim

        return eager(optim.Adam)(self.parameter_groups(model), **self._arguments())


@OPTIMIZERS.register("adamw")
@dataclass(frozen=True)
class AdamW(_AdamOptions):
    """AdamW: Adam whose weight decay shrinks parameters directly, by ``lr * weight_decay``."""

    weight_decay: float = 0.01
    """Strength of the decay towards zero."""

    def build(self, model: nn.Module) -> Optimizer:
        """Return torch.optim.AdamW over the trainable parameters of ``model``."""
        from torch import optim

        return eager(optim.AdamW)(self.parameter_groups(model), **self._arguments())
