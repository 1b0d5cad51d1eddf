"""Numbers drawn at random: both ends draw alike, so that only values travel.

Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", NeurIPS 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from sgp_core.compression.base import COMPRESSIONS, Codec, Coding, Piece

if TYPE_CHECKING:
    from torch import Tensor


@COMPRESSIONS.register("random_k")
@dataclass(frozen=True)
class RandomK(Codec):
    """A ``fraction`` k / n of the numbers, exactly; the others as 0.

    One number is drawn from each of k parts of equal length, so that none is drawn twice and memory is walked through
    in order. Draws follow from ``seed``, the step and the edge.
    """

    gamma: float = 0.15
    fraction: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 < self.fraction <= 1, "fraction", "above 0 and at most 1", self.fraction)

    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        return [(piece.dtype, ceil(self.fraction * piece.numel))]

    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        message[0].copy_(vector[self._drawn(coding).to(vector.device)])

    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        out.zero_()[self._drawn(coding).to(out.device)] = message[0]

    def _drawn(self, coding: Coding) -> Tensor:
        import torch

        [(_, k)] = self.sections(coding.piece)
        bounds = torch.arange(k + 1) * coding.piece.numel // k
        share = torch.rand(k, dtype=torch.float64, generator=coding.generator(self.seed))
        return bounds[:-1] + (share * bounds.diff()).long()
