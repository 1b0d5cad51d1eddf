"""Four bits a number and a scale per block.

Douillard, Donchev, Rush et al., "Streaming DiLoCo with overlapping communication: Towards a Distributed Free Lunch",
2025, arXiv 2501.18512, average outer gradients in four bits, as floats without a mantissa; the grid here is uniform in
small blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.compression import blocks
from sgp_core.compression.base import COMPRESSIONS, Codec, Coding, Piece

if TYPE_CHECKING:
    from torch import Tensor

_LEVELS = 7
"""Whole numbers from -7 to 7 are sent 8 higher, two in a byte."""


@COMPRESSIONS.register("int4")
@dataclass(frozen=True)
class Int4(Codec):
    """Each number rounded to a seventh of the largest of its block of ``block_size``."""

    block_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.block_size >= 1, "block_size", "at least 1 element", self.block_size)

    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        return [("float32", blocks.count(piece.numel, self.block_size)), ("uint8", -(-piece.numel // 2))]

    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        scales, packed = message
        blocks.largest(vector, self.block_size, scales, coding.spare)
        blocks.scale_(scales, 1 / _LEVELS).clamp_(min=blocks.LEAST)
        blocks.divide_(vector, self.block_size, scales)
        numbers = vector.round_().add_(_LEVELS + 1).to(packed.dtype)
        packed.copy_(numbers[: len(packed)])  # the first half of them in the lower bits, the others in the upper
        packed[: len(numbers) - len(packed)].bitwise_or_(numbers[len(packed) :] << 4)

    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        scales, packed = message
        out[: len(packed)].copy_(packed & 15)
        out[len(packed) :].copy_(packed[: len(out) - len(packed)] >> 4)
        blocks.multiply_(out.sub_(_LEVELS + 1), self.block_size, scales)
