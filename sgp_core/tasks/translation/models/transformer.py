"""The transformer for translation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.models import MODELS
from sgp_core.tasks.translation.models.base import TranslationModel
from sgp_core.validation import at_least, below_one, one_of

if TYPE_CHECKING:
    from torch import nn


class Size(StrEnum):
    """Width, hidden width between attentions, heads, layers of encoder and decoder each, dropout."""

    tiny = "tiny"
    """128, 512, 4, 2, 0.1."""
    small = "small"
    """256, 1024, 4, 3, 0.1."""
    base = "base"
    """512, 2048, 8, 6, 0.1: the base model of the paper; 63 million parameters with 37,000 words."""
    big = "big"
    """1024, 4096, 16, 6, 0.3: the big model of the paper; 214 million."""


_SIZES = {
    Size.tiny: (128, 512, 4, 2, 0.1),
    Size.small: (256, 1024, 4, 3, 0.1),
    Size.base: (512, 2048, 8, 6, 0.1),
    Size.big: (1024, 4096, 16, 6, 0.3),
}


class NormPosition(StrEnum):
    """Where layer normalisation stands."""

    post = "post"
    """After each sum, as in the paper."""
    pre = "pre"
    """Before each sublayer (Xiong et al. 2020): learns with less warm-up."""


@MODELS.register("transformer")
@dataclass(frozen=True)
class Transformer(TranslationModel):
    """Encoder-decoder transformer (Vaswani et al. 2017); all embeddings are shared, positions are sinusoids."""

    size: Size = Size.small
    """What the options below are that are null."""
    norm: NormPosition = NormPosition.post
    """Layer normalisation after each sum, or before each sublayer."""
    width: int | None = None
    """Features of a position."""
    feedforward: int | None = None
    """Width of the hidden layer between two attentions."""
    heads: int | None = None
    """Attention heads."""
    encoder_layers: int | None = None
    """Layers that read the source."""
    decoder_layers: int | None = None
    """Layers that write the target."""
    dropout: float | None = None
    """After embeddings and sublayers."""
    attention_dropout: float = 0.0
    """Of attention weights."""
    activation_dropout: float = 0.0
    """After the ReLU between two attentions."""

    def __post_init__(self) -> None:
        for option, choices in (("size", Size), ("norm", NormPosition)):
            one_of(choices, f"model.{option}", getattr(self, option))
        for option in ("width", "feedforward", "heads", "encoder_layers", "decoder_layers"):
            at_least(1, f"model.{option}", getattr(self, option))
        for option in ("dropout", "attention_dropout", "activation_dropout"):
            value = getattr(self, option)
            if value is not None:
                below_one(f"model.{option}", value)
        width, heads = self._of_size("width", 0), self._of_size("heads", 2)
        if width % heads or width % 2:
            raise ConfigurationError(f"model.width={width} must be even and a multiple of model.heads={heads}")

    def build(self, vocabulary: int) -> nn.Module:
        """Return the network for ids below ``vocabulary``, source and target alike."""
        from sgp_core.tasks.translation.transformer import Shape, TransformerNetwork

        shape = Shape(
            width=self._of_size("width", 0),
            feedforward=self._of_size("feedforward", 1),
            heads=self._of_size("heads", 2),
            encoder_layers=self._of_size("encoder_layers", 3),
            decoder_layers=self._of_size("decoder_layers", 3),
            norm_first=self.norm == NormPosition.pre,
            dropout=_SIZES[Size(self.size)][4] if self.dropout is None else self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
        )
        return TransformerNetwork(vocabulary, shape)

    def _of_size(self, option: str, index: int) -> int:
        given = getattr(self, option)
        return int(_SIZES[Size(self.size)][index]) if given is None else int(given)
