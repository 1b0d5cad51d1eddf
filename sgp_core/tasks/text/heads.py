"""The parts of multi-head attention (Vaswani et al. 2017, section 3.2) that all models of text share.

Shapes: B sequences, T positions that ask, H heads of D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass
class KeysAndValues:
    """The positions that attention reads: ``keys`` and ``values`` ``[B, H, positions, D]``."""

    keys: Tensor
    values: Tensor

    def then(self, later: KeysAndValues) -> KeysAndValues:
        """Return these positions followed by ``later`` ones."""
        keys, values = (self.keys, later.keys), (self.values, later.values)
        return KeysAndValues(torch.cat(keys, dim=2), torch.cat(values, dim=2))

    def of(self, rows: Tensor) -> KeysAndValues:
        """Return the given rows of the batch, in that order; rows may repeat."""
        return KeysAndValues(self.keys.index_select(0, rows), self.values.index_select(0, rows))


def attend(
    queries: Tensor, read: KeysAndValues, *, visible: Tensor | None = None, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """Return the attention output ``[B, T, H D]`` of ``queries`` ``[B, H, T, D]``, by torch's fused kernels.

    Args:
        visible: bool ``[B, 1, 1, positions]``: those that may be attended to; None: all.
        causal: whether positions attend to themselves and earlier ones only.
        dropout: probability that an attention weight is dropped.
    """
    found = scaled_dot_product_attention(
        queries, read.keys, read.values, attn_mask=visible, dropout_p=dropout, is_causal=causal
    )
    return found.transpose(1, 2).flatten(2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``[B, T, H D] -> [B, H, T, D]``."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
