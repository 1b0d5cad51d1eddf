"""The encoder-decoder transformer of Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

Shapes: B sentences, T target and S source positions, K beams, V words in the joint vocabulary, W features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, relu

from sgp_core.tasks.text.heads import KeysAndValues
from sgp_core.tasks.translation.attention import CrossAttention, SelfAttention
from sgp_core.tasks.translation.tokens import PAD


@dataclass(frozen=True)
class Shape:
    """Sizes and switches of a transformer."""

    width: int
    """Features of a position."""
    feedforward: int
    """Width of the hidden layer between two attentions."""
    heads: int
    encoder_layers: int
    decoder_layers: int
    norm_first: bool
    """Normalise what goes into a sublayer (pre-norm, Xiong et al. 2020), not the sum after it (post-norm)."""
    dropout: float
    """After embeddings and sublayers."""
    attention_dropout: float
    activation_dropout: float
    """After the ReLU between two attentions."""


@dataclass
class Decoding:
    """The decoder's state for K translations of each of B sentences."""

    visible: Tensor
    """bool ``[B, 1, 1, S]``: source positions that are not padding."""
    sources: list[KeysAndValues]
    """Of each layer, of the source: ``[B, H, S, D]``, shared by the K translations of a sentence."""
    targets: list[KeysAndValues | None]
    """Of each layer, of the tokens so far: ``[B K, H, position, D]``."""
    position: int = 0
    """Number of tokens so far, the same for all translations."""

    def keep(self, sentences: Tensor, translations: Tensor) -> None:
        """Return the state of some sentences, and for each of them of some translations.

        Args:
            sentences: int64 ``[B']``, indices into the B sentences, rising.
            translations: int64 ``[B' K']``, indices into the B K translations, sentence by sentence.
        """
        if len(sentences) < len(self.visible):
            self.visible = self.visible.index_select(0, sentences)
            self.sources = [source.of(sentences) for source in self.sources]
        self.targets = [target and target.of(translations) for target in self.targets]


class TransformerNetwork(nn.Module):
    """Translates ids into logits. Source, target and output share one embedding matrix: the vocabulary is joint.

    Padding may follow the end of a source or a target; no position attends to it. Sentences may be of any length.
    """

    def __init__(self, vocabulary: int, shape: Shape) -> None:
        super().__init__()
        self._dropout = shape.dropout
        self.embedding = nn.Embedding(vocabulary, shape.width)
        nn.init.normal_(self.embedding.weight, std=shape.width**-0.5)
        self.encoder = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.encoder_norm = nn.LayerNorm(shape.width) if shape.norm_first else nn.Identity()
        self.decoder = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.decoder_layers))
        self.decoder_norm = nn.LayerNorm(shape.width) if shape.norm_first else nn.Identity()

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers, which can be compiled one by one."""
        return [*self.encoder, *self.decoder]

    @property
    def _writers(self) -> list[DecoderLayer]:
        return cast("list[DecoderLayer]", list(self.decoder))

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Return logits ``[B, T, V]`` of the token after each target position.

        Args:
            source: int64 ``[B, S]``.
            target_in: int64 ``[B, T]``; begins with the token that stands for the beginning.
        """
        encoded, visible = self.encode(source)
        x = self._embed(target_in)
        for layer in self.decoder:
            x = layer(x, encoded, visible)
        return self._logits(x)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoded source ``[B, S, W]``, and which positions are not padding, bool ``[B, 1, 1, S]``."""
        visible = (source != PAD)[:, None, None, :]
        x = self._embed(source)
        for layer in self.encoder:
            x = layer(x, visible)
        return self.encoder_norm(x), visible

    def begin(self, source: Tensor) -> Decoding:
        """Return the state before the first token of the translations of ``source`` ``[B, S]``."""
        encoded, visible = self.encode(source)
        return Decoding(visible, [layer.cross.memory(encoded) for layer in self._writers], [None] * len(self.decoder))

    def step(self, tokens: Tensor, state: Decoding) -> Tensor:
        """Append a token to each translation, in ``state``, and return the logits of the next, ``[B, K, V]``.

        Args:
            tokens: int64 ``[B, K]``, the newest token of K translations of each sentence.
        """
        x = self._embed(tokens[..., None], first=state.position).squeeze(2)
        for index, layer in enumerate(self._writers):
            x, state.targets[index] = layer.step(x, state.targets[index], state.sources[index], state.visible)
        state.position += 1
        return self._logits(x)

    def _embed(self, ids: Tensor, first: int = 0) -> Tensor:
        width = self.embedding.embedding_dim
        x = self.embedding(ids) * math.sqrt(width) + sinusoids(ids.shape[-1], width, first, ids.device)
        return dropout(x, self._dropout, self.training)

    def _logits(self, x: Tensor) -> Tensor:
        return linear(self.decoder_norm(x), self.embedding.weight)


class EncoderLayer(nn.Module):
    """Self-attention, then two linear layers with ReLU between them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = SelfAttention(shape.width, shape.heads, shape.attention_dropout)
        self.after_attention = Residual(shape)
        self.feedforward = FeedForward(shape)
        self.after_feedforward = Residual(shape)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """``[B, S, W] -> [B, S, W]``; ``visible`` is bool ``[B, 1, 1, S]``."""
        x = self.after_attention(x, partial(self.attention, visible=visible))
        return self.after_feedforward(x, self.feedforward)


class DecoderLayer(nn.Module):
    """Self-attention to the tokens so far, attention to the source, two linear layers."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = SelfAttention(shape.width, shape.heads, shape.attention_dropout)
        self.after_attention = Residual(shape)
        self.cross = CrossAttention(shape.width, shape.heads, shape.attention_dropout)
        self.after_cross = Residual(shape)
        self.feedforward = FeedForward(shape)
        self.after_feedforward = Residual(shape)

    def forward(self, x: Tensor, encoded: Tensor, visible: Tensor) -> Tensor:
        """``[B, T, W] -> [B, T, W]``, every position at once; ``encoded`` is ``[B, S, W]``."""
        # Padding at the end of a target needs no mask: attention is causal, so tokens never see it.
        x = self.after_attention(x, partial(self.attention, causal=True))
        return self._rest(x, self.cross.memory(encoded), visible)

    def step(
        self, x: Tensor, earlier: KeysAndValues | None, source: KeysAndValues, visible: Tensor
    ) -> tuple[Tensor, KeysAndValues]:
        """``[B, K, W] -> [B, K, W]``, one position of K translations, and the keys and values for the next position.

        The K translations of a sentence attend to its source as if they were K positions of one.
        """
        seen = earlier

        def attend(rows: Tensor) -> Tensor:
            nonlocal seen
            gathered, seen = self.attention.step(rows.flatten(0, 1)[:, None], earlier)
            return gathered.view_as(rows)

        x = self._rest(self.after_attention(x, attend), source, visible)
        assert seen is not None
        return x, seen

    def _rest(self, x: Tensor, source: KeysAndValues, visible: Tensor) -> Tensor:
        x = self.after_cross(x, partial(self.cross, memory=source, visible=visible))
        return self.after_feedforward(x, self.feedforward)


class FeedForward(nn.Module):
    """Two linear layers with ReLU between them, the same at every position (section 3.3)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.widen = nn.Linear(shape.width, shape.feedforward)
        self.narrow = nn.Linear(shape.feedforward, shape.width)
        self._dropout = shape.activation_dropout
        for layer in (self.widen, self.narrow):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., W] -> [..., W]``."""
        return self.narrow(dropout(relu(self.widen(x)), self._dropout, self.training))


class Residual(nn.Module):
    """The residual connection around a sublayer, with dropout and layer normalisation."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.width)
        self._norm_first = shape.norm_first
        self._dropout = shape.dropout

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """``[..., W] -> [..., W]``."""
        if self._norm_first:
            return x + dropout(sublayer(self.norm(x)), self._dropout, self.training)
        return self.norm(x + dropout(sublayer(x), self._dropout, self.training))


def sinusoids(positions: int, width: int, first: int = 0, device: torch.device | None = None) -> Tensor:
    """Return the encodings ``[positions, width]`` of positions from ``first`` on (section 3.5).

    Sines and cosines of the same wavelength alternate; wavelengths go from 2 pi to 10000 * 2 pi.
    """
    index = torch.arange(first, first + positions, device=device, dtype=torch.float32)
    frequency = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000) / width))
    angle = index[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)
