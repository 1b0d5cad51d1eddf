"""Sixteen bits with the range of float32 and 8 bits of precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.compression.base import COMPRESSIONS, Codec, Coding, Piece

if TYPE_CHECKING:
    from torch import Tensor


@COMPRESSIONS.register("bf16")
@dataclass(frozen=True)
class BF16(Codec):
    """Each number rounded to bfloat16: wrong by at most 1 part in 256."""

    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        return [("bfloat16", piece.numel)]

    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        message[0].copy_(vector)

    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        out.copy_(message[0])
