"""The decoder-only transformer: GPT-2 (Radford et al. 2019) and Llama (Touvron et al. 2023) by its switches.

Shapes: B sequences, T positions, V words in the vocabulary, W features, H heads of D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, linear, silu

from sgp_core.tasks.text.heads import KeysAndValues, attend, split_heads

_STD = 0.02
"""Standard deviation of initial weights, as in GPT-2."""
ROTARY_BASE = 10_000.0
"""Wavelengths of rotary positions go from 2 pi to almost 2 pi times this (Su et al. 2021, section 3.2.2)."""
NORM_EPS = 1e-5
"""Added to the mean square, or the variance, of what is normalised."""

Past = list[KeysAndValues]
"""The keys and values of earlier positions, of every block."""


@dataclass(frozen=True)
class GptShape:
    """Sizes and switches of a decoder-only transformer."""

    layers: int
    width: int
    heads: int
    hidden: int
    """Width of the hidden layer between two attentions."""
    rotary: bool
    """Rotary positions; else learned ones."""
    rms: bool
    """Root mean square normalisation; else layer normalisation."""
    gated: bool
    """SwiGLU; else GELU."""
    bias: bool
    """Of linear layers and layer normalisation."""
    tied: bool
    """Whether the output has the embedding of tokens as its matrix."""
    dropout: float


class GptNetwork(nn.Module):
    """Predicts the next token at every position.

    Initial weights are normal with standard deviation 0.02; those that write to the residual stream have it divided by
    ``sqrt(2 layers)``, so that the stream does not grow with depth (Radford et al. 2019, section 2.3).

    Args:
        vocabulary: number of tokens, V.
        context: most positions, for which learned positions have embeddings.
    """

    def __init__(self, vocabulary: int, context: int, shape: GptShape) -> None:
        super().__init__()
        self._head_width = shape.width // shape.heads
        self._dropout = shape.dropout
        self.embedding = _embedding(vocabulary, shape.width)
        self.positions = None if shape.rotary else _embedding(context, shape.width)
        self.blocks = nn.ModuleList(GptBlock(shape) for _ in range(shape.layers))
        self.norm = _norm(shape)
        self.head = None if shape.tied else _linear(shape.width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits ``[B, T, V]`` of the token after each of ``tokens``, int64 ``[B, T]``."""
        x, rotation = self._embed(tokens, 0)
        for block in self.blocks:
            x = block(x, rotation)
        return self._logits(x)

    def extend(self, tokens: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Return logits ``[B, V]`` of the token after the last of ``tokens``, and what the next call has as its past.

        Args:
            tokens: int64 ``[B, T]``, those that follow the past; after a past, one: ``[B, 1]``.
            past: the keys and values of the tokens before, of every block; None: there are none.
        """
        x, rotation = self._embed(tokens, 0 if past is None else past[0].keys.shape[2])
        read: Past = []
        for number, block in enumerate(self.blocks):
            x, seen = cast(GptBlock, block).extend(x, rotation, None if past is None else past[number])
            read.append(seen)
        return self._logits(x[:, -1]), read

    def flops_per_token(self, context: int) -> float:
        """Return the floating point operations of forward and backward: ``6 N + 12 L W T``.

        A parameter takes a product and a sum in forward, and twice that in backward; attention takes ``2 W T`` products
        and sums in each of L layers (Chowdhery et al. 2022, appendix B). N leaves out embeddings that are only looked
        up. As there, what a causal mask spares is not left out.

        Args:
            context: T, positions of a window.
        """
        looked_up = (self.positions, self.embedding if self.head is not None else None)
        used = sum(parameter.numel() for parameter in self.parameters())
        used -= sum(embedding.weight.numel() for embedding in looked_up if embedding is not None)
        return 6 * used + 12 * len(self.blocks) * self.embedding.embedding_dim * context

    def _embed(self, tokens: Tensor, begin: int) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream ``[B, T, W]`` of tokens from position ``begin`` on, and their rotation."""
        x, end = self.embedding(tokens), begin + tokens.shape[1]
        if self.positions is None:
            rotation = rotations(end, self._head_width, x.device)[:, begin:]
        else:
            x, rotation = x + self.positions.weight[begin:end], None
        return dropout(x, self._dropout, self.training), rotation

    def _logits(self, x: Tensor) -> Tensor:
        return linear(self.norm(x), self.embedding.weight if self.head is None else self.head.weight)


class GptBlock(nn.Module):
    """Attention to this and earlier positions, then linear layers; each normalised before, and added after."""

    def __init__(self, shape: GptShape) -> None:
        super().__init__()
        self._dropout = shape.dropout
        self.attention_norm = _norm(shape)
        self.attention = CausalAttention(shape)
        self.feedforward_norm = _norm(shape)
        self.feedforward = (GatedFeedForward if shape.gated else GeluFeedForward)(shape)

    def forward(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """``[B, T, W] -> [B, T, W]``; ``rotation`` is that of :func:`rotations`."""
        x = x + self._drop(self.attention(self.attention_norm(x), rotation))
        return x + self._drop(self.feedforward(self.feedforward_norm(x)))

    def extend(self, x: Tensor, rotation: Tensor | None, past: KeysAndValues | None) -> tuple[Tensor, KeysAndValues]:
        """Return what :meth:`forward` does of positions after ``past`` ones, and all keys and values up to them."""
        attended, read = self.attention.extend(self.attention_norm(x), rotation, past)
        x = x + attended
        return x + self.feedforward(self.feedforward_norm(x)), read

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self._dropout, self.training)


class CausalAttention(nn.Module):
    """Multi-head self-attention to this and earlier positions. One matrix projects to queries, keys and values."""

    def __init__(self, shape: GptShape) -> None:
        super().__init__()
        self._heads = shape.heads
        self._dropout = shape.dropout
        self.project = _linear(shape.width, 3 * shape.width, shape.bias)
        self.out = _linear(shape.width, shape.width, shape.bias, writers=2 * shape.layers)

    def forward(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """``[B, T, W] -> [B, T, W]``."""
        queries, own = self._read(x, rotation)
        return self.out(attend(queries, own, causal=True, dropout=self._dropout if self.training else 0.0))

    def extend(self, x: Tensor, rotation: Tensor | None, past: KeysAndValues | None) -> tuple[Tensor, KeysAndValues]:
        """Return what :meth:`forward` does of positions after ``past`` ones, and all keys and values up to them."""
        queries, own = self._read(x, rotation)
        if past is None:
            return self.out(attend(queries, own, causal=True)), own
        assert x.shape[1] == 1, "it sees everything, so nothing is masked"
        read = past.then(own)
        return self.out(attend(queries, read)), read

    def _read(self, x: Tensor, rotation: Tensor | None) -> tuple[Tensor, KeysAndValues]:
        queries, keys, values = (split_heads(part, self._heads) for part in self.project(x).chunk(3, dim=-1))
        if rotation is not None:
            queries, keys = rotate(queries, rotation), rotate(keys, rotation)
        return queries, KeysAndValues(keys, values)


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, equation 6): ``narrow(silu(gate x) * widen x)``."""

    def __init__(self, shape: GptShape) -> None:
        super().__init__()
        self.gate = _linear(shape.width, shape.hidden, shape.bias)
        self.widen = _linear(shape.width, shape.hidden, shape.bias)
        self.narrow = _linear(shape.hidden, shape.width, shape.bias, writers=2 * shape.layers)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., W] -> [..., W]``."""
        return self.narrow(silu(self.gate(x)) * self.widen(x))


class GeluFeedForward(nn.Module):
    """Two linear layers with GELU between them, by the hyperbolic tangent, as in GPT-2."""

    def __init__(self, shape: GptShape) -> None:
        super().__init__()
        self.widen = _linear(shape.width, shape.hidden, shape.bias)
        self.narrow = _linear(shape.hidden, shape.width, shape.bias, writers=2 * shape.layers)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., W] -> [..., W]``."""
        return self.narrow(gelu(self.widen(x), approximate="tanh"))


def rotations(positions: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the angles ``[2, positions, width]``, cosines and sines, by which :func:`rotate` rotates.

    Feature i and feature i + width / 2 make a pair, as in Llama's published weights for ``transformers``; its angle at
    position m is ``m * 10000 ** (-2 i / width)`` (Su et al. 2021, equation 15).
    """
    position = torch.arange(positions, device=device, dtype=torch.float32)
    pair = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    angle = position[:, None] * torch.exp(pair * (-math.log(ROTARY_BASE) / width))
    angle = torch.cat((angle, angle), dim=-1)
    return torch.stack((angle.cos(), angle.sin()))


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Return queries or keys ``[B, H, T, D]`` rotated by the angles of their positions."""
    cosine, sine = rotation.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


def _norm(shape: GptShape) -> nn.Module:
    if shape.rms:
        return nn.RMSNorm(shape.width, eps=NORM_EPS)
    return nn.LayerNorm(shape.width, eps=NORM_EPS, bias=shape.bias)


def _embedding(count: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(count, width)
    nn.init.normal_(embedding.weight, std=_STD)
    return embedding


def _linear(inputs: int, outputs: int, bias: bool, writers: int = 1) -> nn.Linear:
    """Return a linear layer; ``writers`` is the number of those whose outputs are added to one stream."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=_STD / math.sqrt(writers))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
