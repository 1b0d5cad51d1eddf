"""Eight bits a number and a scale per block.

Dettmers, "8-Bit Approximations for Parallelism in Deep Learning", ICLR 2016, has the idea; the grid here is uniform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.compression import blocks
from sgp_core.compression.base import COMPRESSIONS, Codec, Coding, Piece

if TYPE_CHECKING:
    from torch import Tensor


@COMPRESSIONS.register("int8")
@dataclass(frozen=True)
class Int8(Codec):
    """Each number rounded to a 127th of the largest of its block of ``block_size``."""

    block_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.block_size >= 1, "block_size", "at least 1 element", self.block_size)

    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        return [("float32", blocks.count(piece.numel, self.block_size)), ("int8", piece.numel)]

    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        scales, numbers = message
        blocks.largest(vector, self.block_size, scales, coding.spare)
        blocks.scale_(scales, 1 / 127).clamp_(min=blocks.LEAST)
        blocks.divide_(vector, self.block_size, scales)
        numbers.copy_(vector.round_())

    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        scales, numbers = message
        out.copy_(numbers)
        blocks.multiply_(out, self.block_size, scales)
