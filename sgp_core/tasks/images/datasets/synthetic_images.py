"""Computed images of any size and number, which take no memory: to try a model, or to measure a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.datasets.base import ImageDataset
from sgp_core.validation import at_least

if TYPE_CHECKING:
    from sgp_core.tasks.images.classification import ImageClassification


@DATASETS.register("synthetic_images")
@dataclass(frozen=True)
class SyntheticImages(ImageDataset):
    """RGB images of coarse coloured patterns, one pattern a class, under noise; the same every time.

    A model learns them soon, so a loss that does not fall means a mistake. They take no memory, and making a batch
    takes a copy of its size: the numbers and sizes may be ImageNet's.
    """

    image_size: int = 224
    """Height and width."""
    classes: int = 10
    """Number of classes; every one has as many images, to within one."""
    train_examples: int = 1280
    """Images to train on."""
    validation_examples: int = 256
    """Images to validate on."""

    def __post_init__(self) -> None:
        least = {"image_size": 1, "classes": 2, "train_examples": 1, "validation_examples": 1}
        for option, smallest in least.items():
            at_least(smallest, f"dataset.{option}", getattr(self, option))

    @property
    def shape(self) -> tuple[tuple[int, int, int], int]:
        """As the options say."""
        return (3, self.image_size, self.image_size), self.classes

    def load(self) -> ImageClassification:
        """Draw the patterns and the noise."""
        from sgp_core.tasks.images.classification import ImageClassification
        from sgp_core.tasks.images.synthetic import Patterns, SyntheticExamples

        patterns = Patterns(self.image_size, self.classes)
        return ImageClassification(
            SyntheticExamples(patterns, 0, self.train_examples),
            SyntheticExamples(patterns, self.train_examples, self.validation_examples),
            self.classes,
            (3, self.image_size, self.image_size),
        )
