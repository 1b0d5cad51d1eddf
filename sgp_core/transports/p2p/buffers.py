"""Send buffers and receive buffers of point-to-point messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.point_to_point import wait
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import GRAIN

_CHUNK_BYTES = 4 << 20
"""Messages on CPU are cut to this size, so that mixing one chunk runs beside the transfer of the next."""


@dataclass
class SendChunk:
    """A piece of a send buffer, and the sends from it that are under way.

    Attributes:
        exchange: the exchange of those sends; None if there are none.
    """

    tensor: Tensor
    works: Sequence[Any] = ()
    exchange: Exchange | None = None

    def settle(self) -> None:
        """Wait until the sends are complete, so that the piece may be overwritten."""
        if self.exchange is not None:
            peers = self.exchange.out_peers
            wait(self.works, self.exchange, peers if len(self.works) == len(peers) else ())
            self.works, self.exchange = (), None

    def sent_by(self, works: Sequence[Any], exchange: Exchange) -> None:
        """Remember the sends from this piece."""
        self.works, self.exchange = works, exchange


class SendBuffer:
    """A copy of a vector to be sent. Its chunks are sent, and overwritten by the next vector, one by one.

    Args:
        flat: memory for the copy.
    """

    def __init__(self, flat: FlatVector) -> None:
        self.flat = flat
        self._chunks: dict[tuple[int, ...], list[SendChunk]] = {}

    def chunks(self, x: FlatVector) -> list[SendChunk]:
        """Return memory for the weight that travels with ``x``, followed by memory for its chunks."""
        place = (*(x.begins or ()), *(tensor.numel() for tensor in x.tensors))
        if place not in self._chunks:
            weight = torch.zeros(1, dtype=torch.float64, device=self.flat.tensors[0].device)
            self._chunks[place] = [SendChunk(piece) for piece in (weight, *chunks_of(self.flat.at(x)))]
        return self._chunks[place]

    def settle(self) -> None:
        """Wait until all sends are complete."""
        for chunks in self._chunks.values():
            for chunk in chunks:
                chunk.settle()


@dataclass(frozen=True)
class MixChunk:
    """A piece of a vector, and where the same piece of each in-peer's vector is received."""

    mine: Tensor
    slots: list[Tensor]


@dataclass(frozen=True)
class ReceiveSlots:
    """Memory in which a vector, or a part of it, arrives from all in-peers.

    Attributes:
        mine: the chunks of this worker's own vector.
        slots: memory for each of these chunks, one slot per in-peer.
        flats: the same memory as vectors, one per in-peer.
        weights: PushSum weights of the in-peers, ``[in_degree, 1]``.
        weight_slots: the same, one tensor per in-peer.
        weight_out: this worker's weight, where it is sent from here, ``[1]``.
    """

    mine: list[Tensor]
    slots: list[tuple[Tensor, ...]]
    flats: list[FlatVector]
    weights: Tensor
    weight_slots: tuple[Tensor, ...]
    weight_out: Tensor


@dataclass
class _BufferViews:
    slots: dict[int, ReceiveSlots] = field(default_factory=dict)
    waves: dict[int, list[list[MixChunk]]] = field(default_factory=dict)


class ReceiveBuffer:
    """Memory for the vectors of in-peers: one vector, and more once a step has several in-peers at a time."""

    def __init__(self, like: FlatVector, world_size: int) -> None:
        # Waves are rounded up, so one may need a few elements more than the vector has.
        self._memory = [tensor.new_zeros(tensor.numel() + GRAIN * world_size) for tensor in like.tensors]
        self._flats = [FlatVector([m[: t.numel()] for m, t in zip(self._memory, like.tensors, strict=True)])]
        self._views: WeakKeyDictionary[FlatVector, _BufferViews] = WeakKeyDictionary()

    @property
    def first(self) -> FlatVector:
        """The first vector."""
        return self._flats[0]

    def slots(self, x: FlatVector, in_degree: int) -> ReceiveSlots:
        """Return memory in which ``x``, or the part that it is, arrives from up to ``in_degree`` in-peers."""
        views = self._views.setdefault(x, _BufferViews()).slots
        if in_degree not in views:
            while len(self._flats) < in_degree:
                self._flats.append(self.first.zeros_like())
            flats = [flat.at(x) for flat in self._flats[:in_degree]]
            mine = chunks_of(x)
            slots = list(zip(*(chunks_of(flat) for flat in flats), strict=True)) or [()] * len(mine)
            weights = torch.zeros(in_degree, 1, dtype=torch.float64, device=mine[0].device)
            views[in_degree] = ReceiveSlots(mine, slots, flats, weights, weights.unbind(), weights.new_zeros(1))
        return views[in_degree]

    def waves(self, x: FlatVector, in_degree: int) -> list[list[MixChunk]]:
        """Return ``x`` cut into waves: ``in_degree`` in-peers need one vector's memory, and all workers cut alike."""
        waves = self._views.setdefault(x, _BufferViews()).waves
        if in_degree not in waves:
            waves[in_degree] = _cut(x, self._memory, in_degree)
        return waves[in_degree]


def chunks_of(x: FlatVector) -> list[Tensor]:
    """Return the chunks in which a vector travels, in order."""
    return [chunk for tensor in x.tensors if tensor.numel() for chunk in tensor.split(_chunk_elements(tensor))]


def _chunk_elements(tensor: Tensor) -> int:
    return max(1, tensor.numel() if tensor.is_cuda else _CHUNK_BYTES // tensor.element_size())


def _cut(x: FlatVector, memory: list[Tensor], in_degree: int) -> list[list[MixChunk]]:
    """Cut ``x`` into ``in_degree`` waves of chunks, each with one slot of the memory per in-peer."""
    waves: list[list[MixChunk]] = [[] for _ in range(in_degree)]
    for mine, buffer in zip(x.tensors, memory, strict=True):
        size_of_wave = -(-mine.numel() // (GRAIN * in_degree)) * GRAIN if in_degree else 0
        chunk = size_of_wave if mine.is_cuda else _chunk_elements(mine)
        for number, wave in enumerate(waves):
            begin, end = number * size_of_wave, min((number + 1) * size_of_wave, mine.numel())
            length = max(0, end - begin)
            for at in range(0, length, max(1, chunk)):
                size = min(chunk, length - at)
                slots = [buffer[s * length + at : s * length + at + size] for s in range(in_degree)]
                wave.append(MixChunk(mine[begin + at : begin + at + size], slots))
    return waves
