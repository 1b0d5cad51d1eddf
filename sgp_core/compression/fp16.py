"""Sixteen bits with 11 bits of precision, scaled to fit their narrow range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.compression import blocks
from sgp_core.compression.base import COMPRESSIONS, Codec, Coding, Piece

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST = 32768.0


@COMPRESSIONS.register("fp16")
@dataclass(frozen=True)
class FP16(Codec):
    """Each number rounded to float16 relative to the largest of its stretch: wrong by at most 1 part in 2,048.

    The scale keeps differences that shrink from falling below float16's least number, 6e-8.
    """

    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        return [("float32", 1), ("float16", piece.numel)]

    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        scale, numbers = message
        blocks.largest(vector, coding.piece.numel, scale, coding.spare)
        blocks.scale_(scale, 1 / _LARGEST).clamp_(min=blocks.LEAST)
        blocks.divide_(vector, coding.piece.numel, scale)
        numbers.copy_(vector)

    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        scale, numbers = message
        out.copy_(numbers)
        blocks.multiply_(out, coding.piece.numel, scale)
