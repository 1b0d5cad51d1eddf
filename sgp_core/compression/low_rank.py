"""Matrices as products of two thin ones, found by power iteration.

Vogels, Karimireddy, Jaggi, "Practical Low-Rank Communication Compression in Decentralized Deep Learning" (PowerGossip),
NeurIPS 2020. There two neighbours multiply by each other's vector in turn, which needs an answer within the step; here
the sender finds both factors of what the receiver lacks and sends them together, so that one-way edges work as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.compression.base import COMPRESSIONS, Codec, Coding, Piece

if TYPE_CHECKING:
    from torch import Tensor


@COMPRESSIONS.register("low_rank")
@dataclass(frozen=True)
class LowRank(Codec):
    """Each weight, as a matrix ``M`` of shape[0] rows, is sent as ``P Q^T`` of ``rank`` columns each; vectors whole.

    One step of subspace iteration, ``P = orthonormal(M Q')``, ``Q = M^T P``, from the ``Q'`` that the edge's last
    message ended with, mixed with random columns: a copy that is exact in a direction has nothing left there to find.
    Weights that two factors would not make smaller are sent whole.
    """

    keeps_shapes: ClassVar[bool] = True

    gamma: float = 0.1
    rank: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.rank >= 1, "rank", "at least 1", self.rank)

    def _factored(self, piece: Piece) -> bool:
        return piece.matrix is not None and sum(piece.matrix) * self.rank < piece.numel

    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        if piece.matrix is None or not self._factored(piece):
            return [(piece.dtype, piece.numel)]
        rows, columns = piece.matrix
        return [(piece.dtype, rows * self.rank), (piece.dtype, columns * self.rank)]

    def memory(self, piece: Piece) -> tuple[int, ...] | None:
        if piece.matrix is None or not self._factored(piece):
            return None
        return (piece.matrix[1], self.rank)

    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        piece, memory = coding.piece, coding.memory
        if piece.matrix is None or memory is None:
            message[0].copy_(vector)
            return
        import torch

        exact = vector.dtype if vector.dtype == torch.float64 else torch.float32  # torch factors no narrower ones
        m = vector.view(piece.matrix).to(exact)
        fresh = torch.randn(memory.shape, dtype=torch.float32, generator=coding.generator(self.seed))
        q = _unit(memory.to(exact)) + _unit(fresh.to(m))
        p = torch.linalg.qr(m @ q).Q
        torch.matmul(m.T, p, out=q)
        memory.copy_(q)
        message[0].view(-1, self.rank).copy_(p)
        message[1].view(-1, self.rank).copy_(q)

    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        piece = coding.piece
        if piece.matrix is None or not self._factored(piece):
            out.copy_(message[0])
            return
        p, q = (factor.view(-1, self.rank) for factor in message)
        m = out.view(piece.matrix).zero_()
        for column in range(self.rank):  # element by element: a library's product may round as the machine's cores do
            m.addcmul_(p[:, column, None], q[:, column])


def _unit(columns: Tensor) -> Tensor:
    return columns / columns.norm(dim=0).clamp(min=1e-30)
