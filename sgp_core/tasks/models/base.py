"""What a model is here: named options that build a torch module for the data at hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.registry import Registry

if TYPE_CHECKING:
    from torch import nn

MODELS: Registry[Model] = Registry("model", "sgp_core.tasks.models")
"""Every model by name. A new one is one file in this package."""


@dataclass(frozen=True)
class Model(ABC):
    """Options of an image classifier."""

    @abstractmethod
    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return a new classifier, initialised from torch's global random state (the caller seeds it).

        Args:
            example: channels, height and width of one input.
            num_classes: number of logits.

        Raises:
            ConfigurationError: the model cannot take such inputs.
        """
