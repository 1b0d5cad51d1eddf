"""The decoder-only transformer: GPT-2 (Radford et al. 2019) and Llama (Touvron et al. 2023) by its switches.

Shapes: B sequences, T positions, V words in the vocabulary, W features, H heads of D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, linear, silu

from sgp_core.tasks.text.heads import KeysAndValues, attend, split_heads

_STD = 0.02
"""Standard deviation of initial weights, as in GPT-2."""
_ROTARY_BASE = 10_000.0
"""Wavelengths of rotary positions go from 2 pi to almost 2 pi times this (Su et al. 2021, section 3.2.2)."""
_EPS = 1e-5


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
        x = self.embedding(tokens)
        rotation = None
        if self.positions is None:
            rotation = rotations(tokens.shape[1], self._head_width, x.device)
        else:
            x = x + self.positions.weight[: tokens.shape[1]]
        x = dropout(x, self._dropout, self.training)
        for block in self.blocks:
            x = block(x, rotation)
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
        queries, keys, values = (split_heads(part, self._heads) for part in self.project(x).chunk(3, dim=-1))
        if rotation is not None:
            queries, keys = rotate(queries, rotation), rotate(keys, rotation)
        dropped = self._dropout if self.training else 0.0
        return self.out(attend(queries, KeysAndValues(keys, values), causal=True, dropout=dropped))


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
    angle = position[:, None] * torch.exp(pair * (-math.log(_ROTARY_BASE) / width))
    angle = torch.cat((angle, angle), dim=-1)
    return torch.stack((angle.cos(), angle.sin()))


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Return queries or keys ``[B, H, T, D]`` rotated by the angles of their positions."""
    cosine, sine = rotation.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


def _norm(shape: GptShape) -> nn.Module:
    return nn.RMSNorm(shape.width, eps=_EPS) if shape.rms else nn.LayerNorm(shape.width, eps=_EPS, bias=shape.bias)


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
