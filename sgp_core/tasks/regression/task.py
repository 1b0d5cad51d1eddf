"""Predicting a number: mean squared error, and the share of the variance that is explained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from sgp_core.tasks.examples import ExampleTask
from sgp_core.tasks.models import Model
from sgp_core.tasks.regression.models import RegressionModel


@dataclass(frozen=True)
class Regression(ExampleTask):
    """Loaded vectors ``[N, features]``, each with a number. Models return predictions ``[B]``."""

    statistics_size: ClassVar = 4
    features: int

    def build(self, model: Model) -> nn.Module:
        """Return a new model for these vectors."""
        assert isinstance(model, RegressionModel), "refused by check_task"
        return model.build(self.features)

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the mean squared error."""
        return mse_loss(outputs, targets)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sums of squared errors, of targets and of their squares, and the number of targets."""
        y = targets.double()
        return torch.stack([((outputs - y) ** 2).sum(), y.sum(), (y**2).sum(), torch.ones_like(y).sum()])

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the mean squared error and R², the coefficient of determination."""
        errors, total, squares, count = sums
        return {"loss": errors / count, "r2": 1 - errors / (squares - total**2 / count)}

    def describe(self) -> dict[str, Any]:
        """Return the number of features."""
        return {"features": self.features}
