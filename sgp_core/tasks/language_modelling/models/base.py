"""What every language model has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.tasks.language_modelling.kind import TASK
from sgp_core.tasks.models import Model

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LanguageModel(Model, ABC):
    """Options of a model that predicts the next token."""

    task: ClassVar = TASK

    @abstractmethod
    def build(self, vocabulary: int, context: int) -> nn.Module:
        """Return a new model, initialised from torch's global random state (the caller seeds it).

        Its ``forward(tokens)`` takes int64 ``[B, T]`` and returns logits ``[B, T, vocabulary]`` of the token that
        follows each one, computed from that one and those before it.

        Args:
            vocabulary: number of tokens.
            context: most tokens of a sequence, T.
        """
