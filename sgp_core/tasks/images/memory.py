"""A split whose images stay in memory, or in a memory-mapped file, as uint8."""

from __future__ import annotations

import torch
from torch import Tensor

from sgp_core.tasks.images.prepare import Preparation


class ImagesInMemory:
    """Images of one size.

    Args:
        images: uint8 ``[N, C, H, W]``.
        targets: int64 ``[N]``.
        preparation: makes inputs of them.
    """

    def __init__(self, images: Tensor, targets: Tensor, preparation: Preparation) -> None:
        self.images = images
        self.targets = targets
        self.preparation = preparation

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised inputs ``[B, C, H, W]`` and targets ``[B]``; see ``Examples.batch``."""
        images = self.images.index_select(0, indices)
        return self.preparation(images, generator), self.targets.index_select(0, indices)
