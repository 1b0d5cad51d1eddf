"""What every model that classifies images has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.tasks.images.kind import TASK
from sgp_core.tasks.models import Model

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ImageModel(Model, ABC):
    """Options of an image classifier."""

    task: ClassVar = TASK

    @abstractmethod
    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return a new classifier, initialised from torch's global random state (the caller seeds it).

        Args:
            example: channels, height and width of one input.
            num_classes: number of logits.

        Raises:
            ConfigurationError: the model cannot take such inputs.
        """
