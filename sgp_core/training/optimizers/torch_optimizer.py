"""Any optimizer of torch, by its name there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sgp_core.errors import ConfigurationError
from sgp_core.registry import VALUES
from sgp_core.training.optimizers.base import OPTIMIZERS, OptimizerOptions
from sgp_core.training.optimizers.eager import eager
from sgp_core.training.torch_choices import CLASS, complete, find_class, parameters_of
from sgp_core.validation import not_negative, positive

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

_HOW = ("foreach", "fused", "capturable", "differentiable", "maximize")
"""Options about how a step is computed, which torch decides."""
_UNFIT = {
    "LBFGS": "it computes the loss several times a step",
    "SparseAdam": "it is for sparse gradients",
    "Muon": "it takes matrices only; optimizer=muon has AdamW beside it for the others",
}

_NOT_FROM_ZERO = ("ASGD", "NAdam", "Rprop")
"""Those whose state holds step sizes and products, which begin at other numbers than 0."""


@OPTIMIZERS.register("torch")
@dataclass(frozen=True)
class TorchOptimizer(OptimizerOptions):
    """An optimizer of ``torch.optim``: ``optimizer=torch optimizer.name=RMSprop optimizer.alpha=0.95``.

    The options are those of the constructor of that class; null stands for torch's default.
    """

    lr: float | None = None  # type: ignore[assignment]
    """Base learning rate; the schedule multiplies it."""
    weight_decay: float | None = None  # type: ignore[assignment]
    """Strength of the decay towards zero."""
    class_name: str | None = field(default=None, metadata={VALUES: lambda: sorted({*_optimizers()} - {*_UNFIT})})
    """Torch's name of the optimizer; ``optimizer.name=...`` may be used instead."""
    alpha: float | None = None
    """RMSprop, ASGD."""
    amsgrad: bool | None = None
    """Adam, AdamW."""
    beta2_decay: float | None = None
    """Adafactor."""
    betas: list[float] | None = None
    """Adam, AdamW, Adamax, NAdam, RAdam: a list of two."""
    centered: bool | None = None
    """RMSprop."""
    d: float | None = None
    """Adafactor."""
    dampening: float | None = None
    """SGD."""
    decoupled_weight_decay: bool | None = None
    """Adam, NAdam, RAdam."""
    eps: Any = None
    """All but SGD, ASGD and Rprop; of Adafactor a list of two."""
    etas: list[float] | None = None
    """Rprop: a list of two."""
    initial_accumulator_value: float | None = None
    """Adagrad."""
    lambd: float | None = None
    """ASGD."""
    lr_decay: float | None = None
    """Adagrad."""
    momentum: float | None = None
    """SGD, RMSprop."""
    momentum_decay: float | None = None
    """NAdam."""
    nesterov: bool | None = None
    """SGD."""
    rho: float | None = None
    """Adadelta."""
    step_sizes: list[float] | None = None
    """Rprop: a list of two."""
    t0: float | None = None
    """ASGD."""

    def __post_init__(self) -> None:
        defaults = complete("optimizer", self._class, _options(self._class), self._given())
        lr, weight_decay = float(defaults["lr"]), float(defaults.get("weight_decay", 0.0))
        positive("optimizer.lr", lr)
        not_negative("optimizer.weight_decay", weight_decay)
        object.__setattr__(self, "lr", lr)
        object.__setattr__(self, "weight_decay", weight_decay)
        import torch

        self._construct([torch.zeros(1)])

    @classmethod
    def resolve_choice(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Accept ``optimizer.name=RMSprop`` for ``optimizer.class_name=RMSprop``, and fill in torch's defaults."""
        own = OPTIMIZERS.name_of(cls)
        name = values.get(CLASS) if values["name"] == own else values["name"]
        chosen = find_class("optimizer", name, _optimizers(), _UNFIT)
        apart = ("name", CLASS, "decay_norm_and_bias")
        given = {option: value for option, value in values.items() if option not in apart}
        kept = {option: value for option, value in values.items() if option == "decay_norm_and_bias"}
        options = complete("optimizer", chosen, _options(chosen), given)
        return {"name": own, CLASS: chosen.__name__, **kept, **options}

    def build(self, model: nn.Module) -> Optimizer:
        """Return the optimizer over the trainable parameters of ``model``."""
        return self._construct(self.parameter_groups(model))

    @property
    def starts_from_zero(self) -> bool:
        """Whether the optimizer's state is zero at first, so that zeroing it is to start again."""
        return self.class_name not in _NOT_FROM_ZERO and not self.initial_accumulator_value

    @property
    def _class(self) -> type[Optimizer]:
        return find_class("optimizer", self.class_name, _optimizers(), _UNFIT)

    def _given(self) -> dict[str, Any]:
        """Return the options that are not torch's defaults."""
        apart = (CLASS, "decay_norm_and_bias")
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if name not in apart and value is not None}

    def _construct(self, parameters: Any) -> Optimizer:
        """Return torch's optimizer.

        Raises:
            ConfigurationError: it refuses an option.
        """
        cls: Any = self._class
        known = _options(cls)
        options = {name: tuple(v) if isinstance(v, list) else v for name, v in self._given().items() if name in known}
        try:
            optimizer: Optimizer = eager(cls)(parameters, **options)
            return optimizer
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"optimizer=torch: {self.class_name} refuses its options: {error}") from error


def _optimizers() -> dict[str, type[Any]]:
    from torch import optim

    classes = {name: cls for name, cls in vars(optim).items() if isinstance(cls, type)}
    return {
        name: cls for name, cls in classes.items() if issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
    }


def _options(cls: type[Any]) -> dict[str, Any]:
    return parameters_of(cls, _HOW)
