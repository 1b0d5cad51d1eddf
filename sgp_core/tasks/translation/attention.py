"""Multi-head attention (Vaswani et al. 2017, section 3.2) on torch's fused kernels, whole or token by token.

Shapes: B sentences, T target and S source positions, K beams, H heads of D features, W = H D features in all.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from sgp_core.tasks.text.heads import KeysAndValues, attend, split_heads


class SelfAttention(nn.Module):
    """Self-attention. One matrix holds the projections to queries, keys and values.

    Args:
        width: features of a position, W.
        heads: number of heads, a divisor of ``width``.
        dropout: probability that an attention weight is dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads = heads
        self._dropout = dropout
        self.project = _projection(width, 3)
        self.out = _projection(width, 1)

    def forward(self, x: Tensor, visible: Tensor | None = None, causal: bool = False) -> Tensor:
        """Return the attention output for each position of ``x`` ``[B, T, W]``.

        Args:
            visible: bool ``[B, 1, 1, T]``: positions that may be attended to; None: all.
            causal: whether positions attend to themselves and earlier ones only.
        """
        queries, here = self._parts(x)
        return self._gathered(queries, here, visible, causal)

    def step(self, x: Tensor, earlier: KeysAndValues | None) -> tuple[Tensor, KeysAndValues]:
        """Return the output for the newest position ``[B, 1, W]``, and the keys and values up to and including it."""
        queries, here = self._parts(x)
        seen = here if earlier is None else earlier.then(here)
        return self._gathered(queries, seen, None, False), seen

    def _parts(self, x: Tensor) -> tuple[Tensor, KeysAndValues]:
        queries, keys, values = (split_heads(part, self._heads) for part in self.project(x).chunk(3, dim=-1))
        return queries, KeysAndValues(keys, values)

    def _gathered(self, queries: Tensor, seen: KeysAndValues, visible: Tensor | None, causal: bool) -> Tensor:
        dropped = self._dropout if self.training else 0.0
        return self.out(attend(queries, seen, visible=visible, causal=causal, dropout=dropped))


class CrossAttention(nn.Module):
    """Attention to the encoded source, whose keys and values are computed once for many queries.

    Args: as for :class:`SelfAttention`.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads = heads
        self._dropout = dropout
        self.ask = _projection(width, 1)
        self.project = _projection(width, 2)
        self.out = _projection(width, 1)

    def memory(self, encoded: Tensor) -> KeysAndValues:
        """Return the keys and values of the encoded source ``[B, S, W]``."""
        keys, values = (split_heads(part, self._heads) for part in self.project(encoded).chunk(2, dim=-1))
        return KeysAndValues(keys, values)

    def forward(self, x: Tensor, memory: KeysAndValues, visible: Tensor) -> Tensor:
        """Return the attention output for each query of ``x`` ``[B, T, W]``; ``visible`` is bool ``[B, 1, 1, S]``."""
        queries = split_heads(self.ask(x), self._heads)
        dropped = self._dropout if self.training else 0.0
        return self.out(attend(queries, memory, visible=visible, dropout=dropped))


def _projection(width: int, parts: int) -> nn.Linear:
    """Return ``parts`` projections in one matrix.

    Of several, each is initialised by Xavier's rule with gain 1/sqrt(2); a single one with gain 1.
    """
    linear = nn.Linear(width, parts * width)
    bound = math.sqrt(3 / width) * (1 if parts == 1 else math.sqrt(0.5))
    nn.init.uniform_(linear.weight, -bound, bound)
    nn.init.zeros_(linear.bias)
    return linear
