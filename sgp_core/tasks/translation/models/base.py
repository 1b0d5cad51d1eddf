"""What every model that translates has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.tasks.models import Model
from sgp_core.tasks.translation.kind import TASK

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TranslationModel(Model, ABC):
    """Options of a model that translates."""

    task: ClassVar = TASK

    @abstractmethod
    def build(self, vocabulary: int) -> nn.Module:
        """Return a new model, initialised from torch's global random state (the caller seeds it).

        Its ``forward(source, target_in)`` takes tokens, int64 ``[B, S]`` and ``[B, T]``, padded on the right, and
        returns logits ``[B, T, vocabulary]`` of the token that follows each of ``target_in``.

        Args:
            vocabulary: number of tokens; ``sgp_core.tasks.translation.tokens`` says which are special.
        """
