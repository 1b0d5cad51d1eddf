"""A small convolutional network that a CPU can train."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.images.models.base import ImageModel
from sgp_core.tasks.models import MODELS
from sgp_core.validation import at_least, one_of

if TYPE_CHECKING:
    from torch import nn

_GROUPS = 8
_FINAL_SIZE = 4
"""Larger feature maps are averaged down to this height and width before the last layer."""


class ConvNorm(StrEnum):
    """Normalisation after each convolution."""

    none = "none"
    group = "group"
    """Group normalisation: nothing that depends on the other examples or workers."""
    batch = "batch"
    """Batch normalisation: statistics stay local to a worker while training."""


@MODELS.register("cnn")
@dataclass(frozen=True)
class Cnn(ImageModel):
    """Three convolutions and a linear layer: 115,000 parameters for 32x32 RGB images at width 32.

    The first convolution (5x5) has stride 2: halving the resolution at once makes a step several times cheaper.
    """

    width: int = 32
    """Channels of the first convolution; the second has twice, the third four times as many."""
    norm: ConvNorm = ConvNorm.none
    """Normalisation after each convolution."""

    def __post_init__(self) -> None:
        at_least(1, "model.width", self.width)
        one_of(ConvNorm, "model.norm", self.norm)
        if self.norm == ConvNorm.group and self.width % _GROUPS:
            raise ConfigurationError(f"model.width must be a multiple of {_GROUPS} with model.norm=group")

    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the network for inputs ``[B, *example]`` of at least 8 by 8 pixels."""
        from torch import nn

        channels, height, width = example
        if min(height, width) < 8:
            raise ConfigurationError(f"model=cnn needs images of at least 8x8 pixels, not {height}x{width}")
        layers: list[nn.Module] = [
            nn.Conv2d(channels, self.width, 5, stride=2, padding=2),
            *self._after(self.width),
            nn.MaxPool2d(2),
            nn.Conv2d(self.width, 2 * self.width, 3, padding=1),
            *self._after(2 * self.width),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * self.width, 4 * self.width, 3, padding=1),
            *self._after(4 * self.width),
        ]
        # stride 2 rounds up, each pooling down
        size = [min((side + 1) // 2 // 4, _FINAL_SIZE) for side in (height, width)]
        if max(height, width) // 8 > _FINAL_SIZE:
            layers.append(nn.AdaptiveAvgPool2d((size[0], size[1])))
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * self.width * size[0] * size[1], num_classes))

    def _after(self, channels: int) -> list[nn.Module]:
        from torch import nn

        if self.norm == ConvNorm.group:
            return [nn.GroupNorm(_GROUPS, channels), nn.ReLU()]
        if self.norm == ConvNorm.batch:
            return [nn.BatchNorm2d(channels), nn.ReLU()]
        return [nn.ReLU()]
