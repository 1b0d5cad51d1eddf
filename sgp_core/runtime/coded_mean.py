"""The exact average's coded counterpart: each worker averages a slice, and codes it for all, with error feedback.

Tang, Yu, Lian, Zhang, Liu, "DoubleSqueeze: Parallel Stochastic Gradient Descent with Double-Pass Error-Compensated
Compression", ICML 2019, codes what workers send and what comes back, and remembers the errors of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sgp_core.compression import Codec, Coding, Piece
from sgp_core.runtime.compressed.payload import Payload
from sgp_core.tensors.layout import TensorLayout


class CodedMean:
    """One worker's part in an average of coded vectors, ``q``; of n workers each averages the slice that is its own::

        to worker j:     C(v_i[j]),                                   r_i[j] = v_i[j] - C(v_i[j])
        own slice:       a = (v_i[i] + sum_{j != i} C(v_j[i])) / n,   q[i] = C(a),   r_i[i] = n (a - q[i])
        to all others:   q[i]

    What codes leave out, ``r``, is to be added to the next vector. Over the workers ``n q + sum_i r_i = sum_i v_i``, to
    rounding: nothing is lost, but delayed. A worker's own slice needs no code on the way to itself, so that the error
    of the second pass has the place of the first one's there, and needs no memory of its own.

    Args:
        codec: that remembers nothing of a piece.
        vector: ``v_i``, one contiguous tensor for each dtype, changed in place.
        rank, size: this worker, of how many.
        key: of the average, by which codecs draw.
    """

    def __init__(self, codec: Codec, vector: Sequence[Tensor], rank: int, size: int, key: int) -> None:
        self._codec = codec
        self._rank, self._size, self._key = rank, size, key
        self._slices = [
            [tensor[owner * len(tensor) // size : (owner + 1) * len(tensor) // size] for tensor in vector]
            for owner in range(size)
        ]
        self._device = vector[0].device

    def payload(self, owner: int) -> Payload:
        """Return memory for the code of a slice."""
        return Payload(self._codec, self._pieces(owner), self._device)

    def code_slices(self) -> dict[int, Payload]:
        """Code the slices of all others, each for its owner; the vector becomes what that leaves out."""
        coded = {owner: self.payload(owner) for owner in range(self._size) if owner != self._rank}
        for owner, payload in coded.items():
            for piece, part in self._parts(owner):
                coding = self._coding(piece, part, self._rank, owner)
                part.sub_(self._code(part, payload, coding))
        return coded

    def average(self, arrived: Mapping[int, Payload]) -> Payload:
        """Average this worker's slice, given the others' codes of it, by sender; return the average's code, for all.

        The slice of the vector becomes what the code leaves out, n times.
        """
        result = self.payload(self._rank)
        for piece, part in self._parts(self._rank):
            total = torch.zeros_like(part)
            for sender in range(self._size):
                total.add_(part if sender == self._rank else self._decode(arrived[sender], piece, part, sender))
            total.div_(self._size)
            coding = self._coding(piece, part, self._rank, self._rank)
            part.copy_(total).sub_(self._code(total, result, coding)).mul_(self._size)
        return result

    def take(self, owner: int, payload: Payload) -> None:
        """Set a slice of the vector to the average, as its owner has coded it."""
        for piece, part in self._parts(owner):
            coding = self._coding(piece, part, owner, owner)
            self._codec.decode(payload.pieces[piece.index], part, coding)

    def _code(self, part: Tensor, payload: Payload, coding: Coding) -> Tensor:
        """Write the code of ``part``, and return what it says."""
        said, sections = part.clone(), payload.pieces[coding.piece.index]
        self._codec.encode(said, sections, coding)
        self._codec.decode(sections, said, coding)
        return said

    def _decode(self, payload: Payload, piece: Piece, like: Tensor, sender: int) -> Tensor:
        said = torch.empty_like(like)
        self._codec.decode(payload.pieces[piece.index], said, self._coding(piece, like, sender, self._rank))
        return said

    def _coding(self, piece: Piece, like: Tensor, sender: int, receiver: int) -> Coding:
        return Coding(piece, self._key, sender, receiver, torch.empty_like(like))

    def _pieces(self, owner: int) -> list[Piece]:
        return self._codec.pieces(layout_of(self._slices[owner]))

    def _parts(self, owner: int) -> Iterator[tuple[Piece, Tensor]]:
        for piece in self._pieces(owner):
            yield piece, self._slices[owner][piece.tensor][piece.start : piece.start + piece.numel]


def layout_of(tensors: Sequence[Tensor]) -> list[TensorLayout]:
    """Return the layout of vectors without parameters."""
    return [TensorLayout.packed([(len(each),)], str(each.dtype).removeprefix("torch.")) for each in tensors]
