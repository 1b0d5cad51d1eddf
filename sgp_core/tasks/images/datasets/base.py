"""What every data set of images has."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.tasks.datasets import Dataset
from sgp_core.tasks.images.kind import TASK

if TYPE_CHECKING:
    from sgp_core.tasks.images.classification import ImageClassification


@dataclass(frozen=True)
class ImageDataset(Dataset):
    """Options of a data set of images, each of one class."""

    task: ClassVar = TASK
    labelled: ClassVar = True

    @abstractmethod
    def load(self) -> ImageClassification:
        """Read the images."""
