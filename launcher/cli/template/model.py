"""A model: a network of two hidden layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from sgp_core.tasks.images.models import ImageModel
from sgp_core.tasks.models import MODELS

if TYPE_CHECKING:
    from torch import nn


@MODELS.register("two_layers")
@dataclass(frozen=True)
class TwoLayers(ImageModel):
    """Fields are options: sgp-train ... model.width=64."""

    width: int = 32

    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the torch module for inputs of shape ``example``."""
        from torch import nn  # here, not at the top: the launcher then starts without torch

        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(prod(example), self.width),
            nn.GELU(),
            nn.Linear(self.width, self.width),
            nn.GELU(),
            nn.Linear(self.width, num_classes),
        )
