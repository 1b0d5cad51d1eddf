"""Where messages of a p2p transport wait: copies on their way, and memory that they arrive in."""

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
    """A stretch of a vector, and the sends of it that are under way.

    Attributes:
        exchange: of those sends; None if there are none.
    """

    tensor: Tensor
    works: Sequence[Any] = ()
    exchange: Exchange | None = None

    def settle(self) -> None:
        """Wait until it has left, so that it may be written to."""
        if self.exchange is not None:
            peers = self.exchange.out_peers
            wait(self.works, self.exchange, peers if len(self.works) == len(peers) else ())
            self.works, self.exchange = (), None

    def leaves(self, works: Sequence[Any], exchange: Exchange) -> None:
        """Remember what carries it."""
        self.works, self.exchange = works, exchange


class SendBuffer:
    """A copy of a vector that is on its way, in parcels that leave, and are written to again, one by one.

    Args:
        flat: where the copy lies.
    """

    def __init__(self, flat: FlatVector) -> None:
        self.flat = flat
        self._parcels: WeakKeyDictionary[FlatVector, list[SendChunk]] = WeakKeyDictionary()

    def parcels(self, x: FlatVector) -> list[SendChunk]:
        """Return room for the weight that goes with ``x``, and then for its chunks."""
        if x not in self._parcels:
            weight = torch.zeros(1, dtype=torch.float64, device=self.flat.tensors[0].device)
            self._parcels[x] = [SendChunk(piece) for piece in (weight, *chunks_of(self.flat.at(x)))]
        return self._parcels[x]

    def settle(self) -> None:
        """Wait until all of it has left."""
        for parcels in self._parcels.values():
            for parcel in parcels:
                parcel.settle()


@dataclass(frozen=True)
class MixChunk:
    """A stretch of a vector, and where the same stretch of each in-peer's vector is received."""

    mine: Tensor
    slots: list[Tensor]


@dataclass(frozen=True)
class ReceiveSlots:
    """Where one stretch of the vectors of all in-peers arrives.

    Attributes:
        mine: chunks of this worker's own.
        slots: where each chunk arrives, one slot per in-peer.
        flats: the same as vectors, one per in-peer.
        weights: the in-peers' PushSum weights, ``[in_degree, 1]``.
        weight_slots: one per in-peer.
        weight_out: this worker's weight, where it leaves from here, ``[1]``.
    """

    mine: list[Tensor]
    slots: list[tuple[Tensor, ...]]
    flats: list[FlatVector]
    weights: Tensor
    weight_slots: tuple[Tensor, ...]
    weight_out: Tensor


@dataclass
class _BufferViews:
    rooms: dict[int, ReceiveSlots] = field(default_factory=dict)
    waves: dict[int, list[list[MixChunk]]] = field(default_factory=dict)


class ReceiveBuffer:
    """Memory for the vectors of in-peers: one vector, and more once a step has several in-peers at a time."""

    def __init__(self, like: FlatVector, world_size: int) -> None:
        # stretches are rounded up, so a wave may need a few elements more than the vector has
        self._room = [tensor.new_zeros(tensor.numel() + GRAIN * world_size) for tensor in like.tensors]
        self._flats = [FlatVector([r[: t.numel()] for r, t in zip(self._room, like.tensors, strict=True)])]
        self._views: WeakKeyDictionary[FlatVector, _BufferViews] = WeakKeyDictionary()

    @property
    def first(self) -> FlatVector:
        """The first vector."""
        return self._flats[0]

    def room(self, x: FlatVector, in_degree: int) -> ReceiveSlots:
        """Return where the stretch that ``x`` is arrives from up to ``in_degree`` in-peers."""
        rooms = self._views.setdefault(x, _BufferViews()).rooms
        if in_degree not in rooms:
            while len(self._flats) < in_degree:
                self._flats.append(self.first.zeros_like())
            flats = [flat.at(x) for flat in self._flats[:in_degree]]
            mine = chunks_of(x)
            slots = list(zip(*(chunks_of(flat) for flat in flats), strict=True)) or [()] * len(mine)
            weights = torch.zeros(in_degree, 1, dtype=torch.float64, device=mine[0].device)
            rooms[in_degree] = ReceiveSlots(mine, slots, flats, weights, weights.unbind(), weights.new_zeros(1))
        return rooms[in_degree]

    def waves(self, x: FlatVector, in_degree: int) -> list[list[MixChunk]]:
        """Return ``x`` cut so that up to ``in_degree`` in-peers need one vector's room; every rank cuts alike."""
        waves = self._views.setdefault(x, _BufferViews()).waves
        if in_degree not in waves:
            waves[in_degree] = _cut(x, self._room, in_degree)
        return waves[in_degree]


def chunks_of(x: FlatVector) -> list[Tensor]:
    """Return the chunks in which a vector travels, in order."""
    return [chunk for tensor in x.tensors if tensor.numel() for chunk in tensor.split(_chunk_elements(tensor))]


def _chunk_elements(tensor: Tensor) -> int:
    return max(1, tensor.numel() if tensor.is_cuda else _CHUNK_BYTES // tensor.element_size())


def _cut(x: FlatVector, rooms: list[Tensor], in_degree: int) -> list[list[MixChunk]]:
    """Cut ``x`` into ``in_degree`` waves of chunks, each with one slot of the room per in-peer."""
    waves: list[list[MixChunk]] = [[] for _ in range(in_degree)]
    for mine, room in zip(x.tensors, rooms, strict=True):
        share = -(-mine.numel() // (GRAIN * in_degree)) * GRAIN if in_degree else 0
        chunk = share if mine.is_cuda else _chunk_elements(mine)
        for number, wave in enumerate(waves):
            begin, end = number * share, min((number + 1) * share, mine.numel())
            length = max(0, end - begin)
            for at in range(0, length, max(1, chunk)):
                size = min(chunk, length - at)
                slots = [room[s * length + at : s * length + at + size] for s in range(in_degree)]
                wave.append(MixChunk(mine[begin + at : begin + at + size], slots))
    return waves
