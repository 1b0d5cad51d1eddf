"""Models that predict a number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.tasks.models import MODELS, Model
from sgp_core.tasks.regression.kind import TASK

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class RegressionModel(Model, ABC):
    """Options of a model whose ``forward`` takes ``[B, features]`` and returns predictions ``[B]``."""

    task: ClassVar = TASK

    @abstractmethod
    def build(self, features: int) -> nn.Module:
        """Return a new model, initialised from torch's global random state (the caller seeds it)."""


@MODELS.register("linear")
@dataclass(frozen=True)
class Linear(RegressionModel):
    """Linear regression."""

    def build(self, features: int) -> nn.Module:
        """Return a linear layer with one output."""
        from torch import nn

        return nn.Sequential(nn.Linear(features, 1), nn.Flatten(0))
