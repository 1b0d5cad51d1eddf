"""What every data set of images has."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.tasks.datasets import Blueprint, Dataset
from sgp_core.tasks.images.kind import TASK

if TYPE_CHECKING:
    from sgp_core.tasks.images.classification import ImageClassification


@dataclass(frozen=True)
class ImageDataset(Dataset):
    """Options of a data set of images, each of one class."""

    task: ClassVar = TASK
    labelled: ClassVar = True

    @property
    def shape(self) -> tuple[tuple[int, int, int], int] | None:
        """Channels, height and width of an input, and the number of classes; None where only the data tell."""
        return None

    def blueprint(self, batch_size: int) -> Blueprint | None:
        """Return the shape of the images and the number of classes."""
        if self.shape is None:
            return None
        example, num_classes = self.shape
        return Blueprint({"example": example, "num_classes": num_classes}, (("float32", (batch_size, *example)),))

    @abstractmethod
    def load(self) -> ImageClassification:
        """Read the images."""
