"""Payloads: the bytes of coded messages, and the memory that they leave from and arrive in."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sgp_core.compression import Codec, Piece

_WEIGHT_BYTES = 8


class Payload:
    """The bytes of one message: the PushSum weight, then piece after piece.

    Attributes:
        weight: of the sender when it sent, ``[1]``, float64.
        pieces: the arrays of each piece, views into the bytes.
    """

    def __init__(self, codec: Codec, pieces: Iterable[Piece], device: torch.device) -> None:
        pieces = list(pieces)
        size = _WEIGHT_BYTES + sum(map(codec.piece_bytes, pieces))
        self._bytes = torch.zeros(size, dtype=torch.uint8, device=device)
        self.weight = self._bytes[:_WEIGHT_BYTES].view(torch.float64)
        self.pieces: list[list[Tensor]] = []
        at = _WEIGHT_BYTES
        for piece in pieces:
            begin, sections = at, []
            for dtype, count in codec.sections(piece):
                kind: torch.dtype = getattr(torch, dtype)
                sections.append(self._bytes[begin : begin + count * kind.itemsize].view(kind))
                begin += count * kind.itemsize
            self.pieces.append(sections)
            at += codec.piece_bytes(piece)

    def bytes(self, *, weighed: bool = True) -> Tensor:
        """Return what travels, with the weight or without."""
        return self._bytes if weighed else self._bytes[_WEIGHT_BYTES:]


class PayloadPool:
    """Memory for as many messages as were ever under way at once: no more is made while that number holds."""

    def __init__(self, codec: Codec, pieces: list[Piece], device: torch.device) -> None:
        self._options = (codec, pieces, device)
        self._free: list[Payload] = []

    def take(self, peers: Iterable[int]) -> dict[int, Payload]:
        """Return one payload per peer, to be written; each is used again only once it has been put back."""
        return {peer: self._free.pop() if self._free else Payload(*self._options) for peer in peers}

    def put_back(self, payloads: Iterable[Payload]) -> None:
        """Return payloads that have been read, and have left, to the pool."""
        self._free.extend(payloads)
