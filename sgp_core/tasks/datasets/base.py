"""What a data set is: named options that load into a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sgp_core.registry import Registry
from sgp_core.tasks.base import Kind, Task

if TYPE_CHECKING:
    import torch

    from sgp_core.tasks.images.classification import ImageClassification

DATASETS: Registry[Dataset] = Registry("dataset", "sgp_core.tasks.datasets")
"""Every data set by name. A new one is one file in this package."""

NOT_IDENTITY = {"identity": False}
"""Field metadata for options that say where or how data are found, not which experiment is run."""


class Examples(Protocol):
    """One split of images: examples that are addressed by index and come out as ready batches."""

    @property
    def targets(self) -> torch.Tensor:
        """The class of every example, int64 ``[N]``."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def batch(
        self, indices: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the examples at ``indices`` (int64 ``[B]``) as CPU tensors.

        Args:
            indices: which examples, in which order.
            generator: source of every random number of augmentation; None means no augmentation.

        Returns:
            Normalised float32 inputs ``[B, C, H, W]`` and int64 targets ``[B]``.
        """


@dataclass(frozen=True)
class Dataset(ABC):
    """Options of a data set. Creating one is cheap; :meth:`load` does the work."""

    kind: ClassVar[Kind]
    """What it holds."""
    labelled: ClassVar[bool] = False
    """Whether every training example is of one class, so that partitions can go by it."""

    def check(self) -> None:
        """Refuse early, without torch, if the data are not there.

        Raises:
            ConfigurationError: one sentence that names the command which gets them.
        """

    def check_training(self, options: Mapping[str, Any]) -> None:
        """Refuse training options that mean nothing for such data.

        Raises:
            ConfigurationError: one sentence that names what is to be used instead.
        """

    @abstractmethod
    def load(self) -> Task:
        """Read the data.

        Raises:
            ConfigurationError: the data are missing, damaged or not what was asked for.
        """


@dataclass(frozen=True)
class ImageDataset(Dataset):
    """Options of a data set of images, each of one class."""

    kind: ClassVar = Kind.images
    labelled: ClassVar = True

    @abstractmethod
    def load(self) -> ImageClassification:
        """Read the images."""
