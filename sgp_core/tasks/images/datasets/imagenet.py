"""ImageNet in its usual folders."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.datasets.image_folder import Crop, ImageFolder


@DATASETS.register("imagenet")
@dataclass(frozen=True)
class ImageNet(ImageFolder):
    """ImageNet-1k in ``path/train/CLASS/*.JPEG`` and ``path/val/CLASS/*.JPEG``, as most people cut and see it.

    Training sees random parts of 8 to 100 % of the area, resized to 224 pixels and mirrored at random (Szegedy et al.
    2015; Goyal et al. 2017); validation the middle 224 pixels of an image whose shorter side is 256. Nothing is checked
    to be ImageNet: any tree of photographs will do.
    """

    image_size: int = 224
    """Height and width of inputs."""
    crop: Crop = Crop.resized
    """How augmentation crops."""

    @property
    def shape(self) -> tuple[tuple[int, int, int], int]:
        """Of ImageNet-1k. Another tree of photographs may have another number of classes."""
        return (3, self.image_size, self.image_size), 1000
