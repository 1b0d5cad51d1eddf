"""Numbers in turns that are drawn at random: both ends know whose turn it is, so that only values travel.

Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", NeurIPS 2018, who draw anew for every message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from sgp_core.compression.base import COMPRESSIONS, ITEM_BYTES, Codec, Coding, Piece

if TYPE_CHECKING:
    from torch import Tensor


@COMPRESSIONS.register("random_k")
@dataclass(frozen=True)
class RandomK(Codec):
    """A ``fraction`` k / n of the numbers, exactly; the others as 0.

    Numbers are divided into k parts of equal length, so that memory is walked through in order. A message has one of
    each part, and the next message of the edge the one after it; where a part begins is drawn at random, from
    ``seed``. So every number waits for 1 / ``fraction`` messages. While it waits it is mixed as it was, again and
    again: drawing anew for every message would let some wait much longer, and overshoot by as much.
    """

    gamma: float = 0.4
    fraction: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 < self.fraction <= 1, "fraction", "above 0 and at most 1", self.fraction)

    def _count(self, piece: Piece) -> int:
        return ceil(self.fraction * piece.numel)

    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        turn, values = ("float32", 1), (piece.dtype, self._count(piece))
        return [values, turn] if ITEM_BYTES[piece.dtype] >= 4 else [turn, values]

    def memory(self, piece: Piece) -> tuple[int, ...] | None:
        return (1,)

    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        import torch

        values, turn = self._arrays(message, coding.piece)
        assert coding.memory is not None
        whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[coding.memory.element_size()]
        turns = coding.memory.view(whole)  # bfloat16 itself would count to 256 only
        turn.copy_(turns)
        turns.add_(1).remainder_(self._length(coding.piece))
        values.copy_(vector[self._chosen(turn, coding).to(vector.device)])

    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        values, turn = self._arrays(message, coding.piece)
        out.zero_()[self._chosen(turn, coding).to(out.device)] = values

    def _arrays(self, message: Sequence[Tensor], piece: Piece) -> tuple[Tensor, Tensor]:
        first, second = message
        return (first, second) if ITEM_BYTES[piece.dtype] >= 4 else (second, first)

    def _length(self, piece: Piece) -> int:
        """Return the length of the longest part."""
        return min(-(-piece.numel // self._count(piece)), (1 << 15) - 1)

    def _chosen(self, turn: Tensor, coding: Coding) -> Tensor:
        """Return the index of each part's number whose turn it is."""
        import torch

        k = self._count(coding.piece)
        bounds = torch.arange(k + 1) * coding.piece.numel // k
        lengths = bounds.diff()
        generator = torch.Generator().manual_seed(self.seed + coding.piece.index)
        begins = (torch.rand(k, dtype=torch.float64, generator=generator) * lengths).long()
        return bounds[:-1] + (begins + int(turn)) % lengths
