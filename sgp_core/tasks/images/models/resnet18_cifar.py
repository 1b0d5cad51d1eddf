"""ResNet-18 for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.tasks.images.models.base import ImageModel
from sgp_core.tasks.models import MODELS
from sgp_core.validation import at_least

if TYPE_CHECKING:
    from torch import nn


@MODELS.register("resnet18_cifar")
@dataclass(frozen=True)
class Resnet18Cifar(ImageModel):
    """ResNet-18 (He et al. 2016) with a 3x3 stem and no max-pooling; 11.2 million parameters at width 64."""

    width: int = 64
    """Channels of the first stage; they double in each of the three that follow."""
    zero_init_residual: bool = False
    """Start with every residual block as the identity (Goyal et al. 2017)."""

    def __post_init__(self) -> None:
        at_least(1, "model.width", self.width)

    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the network for inputs ``[B, *example]``."""
        from sgp_core.tasks.images.resnet import resnet18_for_small_images

        return resnet18_for_small_images(example[0], num_classes, self.width, self.zero_init_residual)
