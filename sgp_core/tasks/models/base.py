"""What a model is here: named options that build a torch module for the data at hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.registry import Registry
from sgp_core.tasks.base import Kind

if TYPE_CHECKING:
    from torch import nn

MODELS: Registry[Model] = Registry("model", "sgp_core.tasks.models")
"""Every model by name. A new one is one file in this package."""


@dataclass(frozen=True)
class Model:
    """Options of a model. Creating one is cheap; ``build`` makes the torch module."""

    kind: ClassVar[Kind]
    """What it is for."""


@dataclass(frozen=True)
class ImageModel(Model, ABC):
    """Options of an image classifier."""

    kind: ClassVar = Kind.images

    @abstractmethod
    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return a new classifier, initialised from torch's global random state (the caller seeds it).

        Args:
            example: channels, height and width of one input.
            num_classes: number of logits.

        Raises:
            ConfigurationError: the model cannot take such inputs.
        """


@dataclass(frozen=True)
class TranslationModel(Model, ABC):
    """Options of a model that translates."""

    kind: ClassVar = Kind.translation

    @abstractmethod
    def build(self, vocabulary: int) -> nn.Module:
        """Return a new model, initialised from torch's global random state (the caller seeds it).

        Its ``forward(source, target_in)`` takes tokens, int64 ``[B, S]`` and ``[B, T]``, padded on the right, and
        returns logits ``[B, T, vocabulary]`` of the token that follows each of ``target_in``.

        Args:
            vocabulary: number of tokens; ``sgp_core.tasks.translation.tokens`` says which are special.
        """
