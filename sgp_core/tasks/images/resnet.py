"""Residual network for small images (after He et al. 2016)."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int, zero_init: bool) -> None:
        super().__init__()
        last = nn.BatchNorm2d(channels)
        if zero_init:
            nn.init.zeros_(last.weight)
        self.residual = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            last,
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``relu(shortcut(x) + residual(x))``."""
        return nn.functional.relu(self.shortcut(x) + self.residual(x), inplace=True)


def resnet18_for_small_images(channels: int, num_classes: int, width: int, zero_init_residual: bool) -> nn.Sequential:
    """Return ResNet-18 with a 3x3 stem and no max-pooling, so that 32x32 images keep their resolution at first.

    Args:
        channels: of the input.
        num_classes: number of logits.
        width: channels of the first stage; they double in each of the three that follow.
        zero_init_residual: start with every block as the identity: the last normalisation of each branch is zero
            (Goyal et al. 2017).
    """
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
    channels_in = width
    for stage in range(4):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(ResidualBlock(channels_in, width * 2**stage, stride, zero_init_residual))
            channels_in = width * 2**stage
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels_in, num_classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
