"""Multi-layer perceptron on flattened pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sgp_core.tasks.images.models.base import ImageModel
from sgp_core.tasks.models import MODELS
from sgp_core.validation import require

if TYPE_CHECKING:
    from torch import nn


@MODELS.register("mlp")
@dataclass(frozen=True)
class Mlp(ImageModel):
    """Fully connected layers with ReLU between them."""

    hidden: list[int] = field(default_factory=lambda: [256])
    """Width of each hidden layer; an empty list is logistic regression."""

    def __post_init__(self) -> None:
        require(all(width >= 1 for width in self.hidden), "model.hidden", "positive widths", list(self.hidden))

    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the network for inputs ``[B, *example]``."""
        from torch import nn

        layers: list[nn.Module] = [nn.Flatten()]
        width = math.prod(example)
        for hidden in self.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        return nn.Sequential(*layers, nn.Linear(width, num_classes))
