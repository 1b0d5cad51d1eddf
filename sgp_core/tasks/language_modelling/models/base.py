"""What every language model has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.language_modelling.kind import TASK
from sgp_core.tasks.models import MODELS, Model

if TYPE_CHECKING:
    from torch import Tensor, nn


class PublishedModel(NamedTuple):
    """The equal model of the library ``transformers``: what is in its ``config.json``, and its weights by name."""

    options: dict[str, Any]
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class LanguageModel(Model, ABC):
    """Options of a model that predicts the next token."""

    task: ClassVar = TASK

    @abstractmethod
    def build(self, vocabulary: int, context: int) -> nn.Module:
        """Return a new model, initialised from torch's global random state (the caller seeds it).

        Its ``forward(tokens)`` takes int64 ``[B, T]`` and returns logits ``[B, T, vocabulary]`` of the token that
        follows each one, computed from that one and those before it. It may have a method ``extend``, as
        :class:`sgp_core.tasks.language_modelling.network.GptNetwork` has: then ``sgp generate`` computes nothing twice.

        Args:
            vocabulary: number of tokens.
            context: most tokens of a sequence, T.
        """

    def publish(self, state: Mapping[str, Tensor], context: int) -> PublishedModel:
        """Return the model of ``transformers`` that computes the same logits.

        Args:
            state: of the module that :meth:`build` returned, with its weights.
            context: most tokens of a sequence.

        Raises:
            ConfigurationError: there is none.
        """
        raise ConfigurationError(f"transformers has no model that is equal to '{MODELS.name_of(type(self))}'")
