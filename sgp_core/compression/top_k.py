"""The largest numbers, with where they belong.

Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", NeurIPS 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from sgp_core.compression.base import COMPRESSIONS, ITEM_BYTES, Codec, Coding, Piece

if TYPE_CHECKING:
    from torch import Tensor

_MIDDLE = 1 << 15
"""Indices run from 0 to 65,535 and travel as signed 16-bit numbers, this much lower."""


@COMPRESSIONS.register("top_k")
@dataclass(frozen=True)
class TopK(Codec):
    """The ``fraction`` of largest magnitude of every stretch of 65,536 numbers, exactly; the others as 0."""

    gamma: float = 0.5
    fraction: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 < self.fraction <= 1, "fraction", "above 0 and at most 1", self.fraction)

    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        k = ceil(self.fraction * piece.numel)
        return sorted([(piece.dtype, k), ("int16", k)], key=lambda section: -ITEM_BYTES[section[0]])

    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        import torch

        values, indices = message
        chosen = torch.abs(vector, out=coding.spare).topk(len(values), sorted=False).indices
        values.copy_(vector[chosen])
        indices.copy_(chosen - _MIDDLE)

    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        values, indices = message
        out.zero_()[indices.long() + _MIDDLE] = values
