"""The decoder-only transformer, in the shapes of GPT-2 and of Llama."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.language_modelling.models.base import LanguageModel, PublishedModel
from sgp_core.tasks.models import MODELS
from sgp_core.validation import at_least, below_one, one_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sgp_core.tasks.language_modelling.network import GptShape


class GptSize(StrEnum):
    """Layers, width and heads; parameters with the named number of tokens in the vocabulary."""

    tiny = "tiny"
    """4 layers, 128 wide, 4 heads: 1.1 million with 2,048 tokens."""
    small = "small"
    """6, 320, 5: 10 million with 8,192."""
    m30 = "30m"
    """8, 512, 8: 30 million with 8,192."""
    m124 = "124m"
    """12, 768, 12 in GPT-2's shape, Radford et al. 2019: 124 million with 50,257 and 1,024 positions."""
    m150 = "150m"
    """12, 896, 14 in Llama's shape: 144 million with 32,000."""


class Positions(StrEnum):
    """How a model knows where a token stands."""

    rotary = "rotary"
    """Queries and keys are rotated by their position (Su et al. 2021)."""
    learned = "learned"
    """An embedding of each position is added to that of the token."""


class Norm(StrEnum):
    """What is applied before each sublayer, and after the last."""

    rms = "rms"
    """Root mean square normalisation (Zhang and Sennrich 2019)."""
    layer = "layer"
    """Layer normalisation."""


class Activation(StrEnum):
    """Between the linear layers after each attention."""

    swiglu = "swiglu"
    """A product with a gate (Shazeer 2020)."""
    gelu = "gelu"


class _Values(NamedTuple):
    """What options are that are null."""

    layers: int
    width: int
    heads: int
    hidden: int
    positions: Positions = Positions.rotary
    norm: Norm = Norm.rms
    activation: Activation = Activation.swiglu
    bias: bool = False


_SIZES = {
    GptSize.tiny: _Values(4, 128, 4, 352),
    GptSize.small: _Values(6, 320, 5, 864),
    GptSize.m30: _Values(8, 512, 8, 1376),
    GptSize.m124: _Values(12, 768, 12, 3072, Positions.learned, Norm.layer, Activation.gelu, True),
    GptSize.m150: _Values(12, 896, 14, 2400),
}


@MODELS.register("gpt")
@dataclass(frozen=True)
class Gpt(LanguageModel):
    """Decoder-only transformer with normalisation before each sublayer."""

    size: GptSize = GptSize.small
    """What the options below are that are null."""
    layers: int | None = None
    """Blocks of attention and feedforward."""
    width: int | None = None
    """Features of a position."""
    heads: int | None = None
    """Attention heads."""
    hidden: int | None = None
    """Width of the hidden layer between two attentions."""
    positions: Positions | None = None
    """How a model knows where a token stands."""
    norm: Norm | None = None
    """Root mean square or layer normalisation."""
    activation: Activation | None = None
    """Between the linear layers after each attention."""
    bias: bool | None = None
    """Whether linear layers and layer normalisation add a bias."""
    tied: bool = True
    """Whether the output has the embedding of tokens as its matrix."""
    dropout: float = 0.0
    """After embeddings and sublayers, and of attention weights."""

    def __post_init__(self) -> None:
        for option, choices in (
            ("size", GptSize), ("positions", Positions), ("norm", Norm), ("activation", Activation),
        ):  # fmt: skip
            if getattr(self, option) is not None:
                one_of(choices, f"model.{option}", getattr(self, option))
        for option in ("layers", "width", "heads", "hidden"):
            at_least(1, f"model.{option}", getattr(self, option))
        below_one("model.dropout", self.dropout)
        width, heads, positions = (self._of_size(option) for option in ("width", "heads", "positions"))
        if width % heads:
            raise ConfigurationError(f"model.width={width} must be a multiple of model.heads={heads}")
        if positions == Positions.rotary and width // heads % 2:
            raise ConfigurationError(
                f"model.width={width}: with rotary positions, each of model.heads={heads} must have an even width"
            )

    def shape(self) -> GptShape:
        """Return all sizes and switches."""
        from sgp_core.tasks.language_modelling.network import GptShape

        return GptShape(
            layers=self._of_size("layers"),
            width=self._of_size("width"),
            heads=self._of_size("heads"),
            hidden=self._of_size("hidden"),
            rotary=self._of_size("positions") == Positions.rotary,
            rms=self._of_size("norm") == Norm.rms,
            gated=self._of_size("activation") == Activation.swiglu,
            bias=self._of_size("bias"),
            tied=self.tied,
            dropout=self.dropout,
        )

    def build(self, vocabulary: int, context: int) -> nn.Module:
        """Return the network for ids below ``vocabulary`` and at most ``context`` positions."""
        from sgp_core.tasks.language_modelling.network import GptNetwork

        return GptNetwork(vocabulary, context, self.shape())

    def publish(self, state: Mapping[str, Tensor], context: int) -> PublishedModel:
        """Return the equal GPT-2 or Llama."""
        from sgp_core.tasks.language_modelling.published_shapes import publish

        return publish(self.shape(), state, context)

    def _of_size(self, option: str) -> Any:
        given = getattr(self, option)
        return getattr(_SIZES[GptSize(self.size)], option) if given is None else given
