"""What a data set is: named options that load into a training and a validation split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sgp_core.registry import Registry

if TYPE_CHECKING:
    import torch

DATASETS: Registry[Dataset] = Registry("dataset", "sgp_core.tasks.datasets")
"""Every data set by name. A new one is one file in this package."""

NOT_IDENTITY = {"identity": False}
"""Field metadata for options that say where or how data are found, not which experiment is run."""


class Examples(Protocol):
    """One split: examples that are addressed by index and come out as ready batches."""

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
class Splits:
    """A loaded data set."""

    train: Examples
    validation: Examples
    num_classes: int
    example_shape: tuple[int, int, int]
    """Channels, height, width of one input."""


@dataclass(frozen=True)
class Dataset(ABC):
    """Options of a data set. Creating one is cheap; :meth:`load` does the work."""

    def check(self) -> None:
        """Refuse early, without torch, if the data are not there.

        Raises:
            ConfigurationError: one sentence that names the command which gets them.
        """

    @abstractmethod
    def load(self) -> Splits:
        """Read the data.

        Raises:
            ConfigurationError: the data are missing, damaged or not what was asked for.
        """
