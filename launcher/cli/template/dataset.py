"""A data set: points on three spirals; which spiral is to be learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.datasets import ImageDataset

if TYPE_CHECKING:
    from sgp_core.tasks.images.classification import ImageClassification

CLASSES = 3


@DATASETS.register("spirals")
@dataclass(frozen=True)
class Spirals(ImageDataset):
    """Each point is an image of one pixel with two channels."""

    noise: float = 0.05
    examples: int = 1200

    def load(self) -> ImageClassification:
        """Draw the points; the first two thirds train, the others validate."""
        import torch

        from sgp_core.tasks.examples import TensorExamples
        from sgp_core.tasks.images.classification import ImageClassification

        generator = torch.Generator().manual_seed(0)
        targets = torch.arange(self.examples) % CLASSES
        radius = 0.2 + 1.8 * torch.rand(self.examples, generator=generator)
        angle = 2 * radius + 2 * torch.pi * targets / CLASSES
        points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        points += self.noise * torch.randn(points.shape, generator=generator)
        inputs, cut = points.view(-1, 2, 1, 1), 2 * self.examples // 3
        splits = TensorExamples(inputs[:cut], targets[:cut]), TensorExamples(inputs[cut:], targets[cut:])
        return ImageClassification(*splits, num_classes=CLASSES, example_shape=(2, 1, 1))
