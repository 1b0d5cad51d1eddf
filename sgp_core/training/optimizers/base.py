"""The base of optimizer options: a learning rate, weight decay, and which parameters the decay spares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgp_core.errors import ConfigurationError
from sgp_core.registry import Registry
from sgp_core.validation import not_negative, positive

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

OPTIMIZERS: Registry[OptimizerOptions] = Registry("optimizer", "sgp_core.training.optimizers")
"""Every optimizer by name. A new one is one file in this package."""


@dataclass(frozen=True)
class OptimizerOptions(ABC):
    """Options of one optimizer; :meth:`build` makes it for a model. Stable extension point.

    Raises:
        ConfigurationError: an option is out of its range.
    """

    lr: float = 0.05
    """Base learning rate; the schedule multiplies it."""
    weight_decay: float = 0.0
    """Strength of the decay towards zero."""
    decay_norm_and_bias: bool = True
    """Whether weight decay also acts on biases and normalisation layers (parameters with at most one axis)."""

    def __post_init__(self) -> None:
        positive("optimizer.lr", self.lr)
        not_negative("optimizer.weight_decay", self.weight_decay)

    @classmethod
    def resolve_choice(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``{"name": ..., options...}`` with a registered name.

        A choice that stands for many optimizers accepts the name of one in the place of its own.

        Raises:
            ConfigurationError: there is no optimizer of that name, or it has not these options.
        """
        return dict(values)

    @property
    def starts_from_zero(self) -> bool:
        """Whether the optimizer's state is zero at first, so that zeroing it is to start again."""
        return True

    @abstractmethod
    def build(self, model: nn.Module) -> Optimizer:
        """Return the optimizer over the parameters of ``model`` that require gradients."""

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return torch parameter groups: one, or two when the decay spares norms and biases.

        Raises:
            ConfigurationError: nothing in the model requires gradients.
        """
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trainable:
            raise ConfigurationError("the model has no parameter that requires gradients, so nothing can be trained")
        if self.decay_norm_and_bias or not self.weight_decay:
            return [{"params": trainable, "weight_decay": self.weight_decay}]
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]
