"""One bit a number and a scale per block, after a random rotation.

The scaled sign, ``||v||_1 / d * sign(v)``: Karimireddy, Rebjock, Stich, Jaggi, "Error Feedback Fixes SignSGD and other
Gradient Compression Schemes", ICML 2019. The rotation: Vargaftik et al., "DRIVE: One-bit Distributed Mean Estimation",
NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.compression import blocks
from sgp_core.compression.base import COMPRESSIONS, Codec, Coding, Piece

if TYPE_CHECKING:
    from torch import Tensor


@COMPRESSIONS.register("sign")
@dataclass(frozen=True)
class Sign(Codec):
    """The sign of each number of a rotated block of ``block_size``, times the block's mean magnitude.

    Signs alone lose almost everything of a block with few large numbers: all get the same magnitude. A rotation
    spreads them, so that a sign is worth a share of about 2 / pi of any block's energy. It is a Hadamard transform
    after random changes of sign, which follow from ``seed``, the step and the edge. The last block is filled up with
    zeros.
    """

    gamma: float = 0.7
    block_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.block_size
        self.require(size >= 8 and size & (size - 1) == 0, "block_size", "a power of 2, at least 8", size)

    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        count = blocks.count(piece.numel, self.block_size)
        return [("float32", count), ("uint8", count * self.block_size // 8)]

    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        scales, packed = message
        rotated = vector.new_zeros(self.block_size, len(scales))  # a block is a column: additions run along rows
        rotated.view(-1)[: len(vector)].copy_(vector)
        rotated = _hadamard(rotated.mul_(self._signs(coding).to(rotated)))
        scales.copy_(rotated.abs().sum(0))
        blocks.scale_(scales, 1 / self.block_size)
        bits = (rotated >= 0).view(8, -1).to(packed.dtype)
        packed.zero_()
        for place in range(8):
            packed.bitwise_or_(bits[place] << place)

    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        scales, packed = message
        bits = packed.new_empty(8, len(packed))
        for place in range(8):
            bits[place] = (packed >> place) & 1
        rotated = bits.view(self.block_size, len(scales)).to(out.dtype).mul_(2).sub_(1).mul_(scales)
        out.copy_(_hadamard(rotated).mul_(self._signs(coding).to(out)).view(-1)[: len(out)])

    def _signs(self, coding: Coding) -> Tensor:
        import torch

        return torch.randint(2, (self.block_size, 1), generator=coding.generator(self.seed)) * 2 - 1


def _hadamard(columns: Tensor) -> Tensor:
    """Return each column's orthonormal Walsh-Hadamard transform, its own inverse, by additions in a fixed order."""
    import torch

    size, count = columns.shape
    half = 1
    while half < size:
        first, second = columns.view(-1, 2, half, count).unbind(1)
        columns = torch.stack([first + second, first - second], dim=1)
        half *= 2
    return columns.view(size, count).mul_(size**-0.5)
