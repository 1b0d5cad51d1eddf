"""Muon (Jordan et al. 2024) with AdamW beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.training.optimizers.base import OPTIMIZERS, OptimizerOptions
from sgp_core.training.optimizers.eager import eager
from sgp_core.validation import at_least, below_one, one_of, positive, require

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class LearningRateAdjustment(StrEnum):
    """What the learning rate of a matrix with m rows and n columns is multiplied by."""

    match_rms_adamw = "match_rms_adamw"
    """``0.2 sqrt(max(m, n))``: steps as long as AdamW's, whose learning rates then fit (Liu et al. 2025)."""
    original = "original"
    """``sqrt(max(1, m / n))`` (Jordan et al. 2024); learning rates are about 0.02 then."""
    spectral_unclamped = "spectral_unclamped"
    """``sqrt(m / n)`` (Bernstein 2025)."""


@OPTIMIZERS.register("muon")
@dataclass(frozen=True)
class Muon(OptimizerOptions):
    """Muon for matrices between hidden features: momentum, whose update is made nearly orthogonal. AdamW for all else.

    Which are hidden: :func:`sgp_core.training.hidden_matrices.hidden_matrices`. AdamW has embeddings, the output layer,
    convolutions, normalisation and biases.
    """

    lr: float = 0.001
    """Base learning rate of Muon; the schedule multiplies it."""
    weight_decay: float = 0.01
    """Strength of the decay towards zero, in both: shrinks parameters directly, by ``lr * weight_decay``."""
    momentum: float = 0.95
    """Muon's momentum: share of the running mean of gradients that is kept."""
    nesterov: bool = True
    """Nesterov's form of momentum."""
    ns_steps: int = 5
    """Steps of the Newton-Schulz iteration that makes an update orthogonal."""
    adjust_lr: LearningRateAdjustment = LearningRateAdjustment.match_rms_adamw
    """What the learning rate of a matrix is multiplied by, given its shape."""
    adamw_lr_ratio: float = 1.0
    """AdamW's learning rate over that of Muon."""
    adamw_for: list[str] = field(default_factory=list)
    """Hidden matrices that AdamW updates all the same: their names, or the beginnings of them."""
    beta1: float = 0.9
    """AdamW's decay of the mean of gradients."""
    beta2: float = 0.95
    """AdamW's decay of the mean of squared gradients."""
    eps: float = 1e-8
    """AdamW adds it to the root of the mean of squares."""

    def __post_init__(self) -> None:
        super().__post_init__()
        below_one("optimizer.momentum", self.momentum)
        if self.nesterov:
            require(self.momentum > 0, "optimizer.momentum", "positive when optimizer.nesterov=true", self.momentum)
        at_least(1, "optimizer.ns_steps", self.ns_steps)
        require(self.ns_steps < 100, "optimizer.ns_steps", "below 100", self.ns_steps)
        one_of(LearningRateAdjustment, "optimizer.adjust_lr", self.adjust_lr)
        positive("optimizer.adamw_lr_ratio", self.adamw_lr_ratio)
        below_one("optimizer.beta1", self.beta1)
        below_one("optimizer.beta2", self.beta2)
        positive("optimizer.eps", self.eps)

    def build(self, model: nn.Module) -> Optimizer:
        """Return :class:`~sgp_core.training.muon.MuonAdamW` over the trainable parameters of ``model``.

        Raises:
            ConfigurationError: it has no hidden matrices, or none of a name in ``adamw_for``.
        """
        from sgp_core.training.muon import MuonAdamW

        groups = self.parameter_groups(model)
        hidden = self._hidden(model)
        mine = set(map(id, hidden))
        muon = {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "ns_steps": self.ns_steps,
            "adjust_lr_fn": str(LearningRateAdjustment(self.adjust_lr)),
        }
        adamw: dict[str, Any] = {
            "lr": self.lr * self.adamw_lr_ratio,
            "betas": (self.beta1, self.beta2),
            "eps": self.eps,
        }
        others = [{**group, **adamw, "params": [p for p in group["params"] if id(p) not in mine]} for group in groups]
        return eager(MuonAdamW)([{"params": hidden, **muon}], others)

    def _hidden(self, model: nn.Module) -> list[nn.Parameter]:
        from sgp_core.training.hidden_matrices import hidden_matrices

        hidden = {id(matrix): matrix for matrix in hidden_matrices(model)}
        names = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in hidden}
        for beginning in self.adamw_for:
            left_out = [name for name in names if name.startswith(beginning)]
            if not left_out:
                known = {name.rpartition(".")[0] or name for name in names}
                raise ConfigurationError(
                    f"optimizer.adamw_for: no hidden matrix begins with {beginning}{did_you_mean(beginning, known)}"
                )
            for name in left_out:
                hidden.pop(id(names[name]), None)
        if not hidden:
            raise ConfigurationError(
                "optimizer=muon is for matrices between hidden features, and this model has none that may be updated by"
                " it: only an output layer, embeddings or convolutions; use optimizer=adamw"
            )
        return list(hidden.values())
