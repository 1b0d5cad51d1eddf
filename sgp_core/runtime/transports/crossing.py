"""The part of a mix that crosses between hosts: chunks are sent, received and mixed, the next while one is mixed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgp_core.flat import Flat
from sgp_core.runtime.transports.base import Exchange
from sgp_core.runtime.transports.blocks import Blocks
from sgp_core.runtime.transports.routes import Chunk, Routes
from sgp_core.runtime.transports.wire import Wire, wait
from sgp_core.timeline import Marks, now

_SENT_AHEAD = 4
"""Chunks of a worker that are under way at a time."""
_AWAITED = 8
"""Chunks that it has room for. More than are sent, since "ready to receive" waits behind what the other way carries."""

_ALIGNMENT_BYTES = 64


class Room:
    """Where chunks arrive; made once."""

    def __init__(self) -> None:
        self._bytes = torch.zeros(0, dtype=torch.uint8)

    def of(self, nbytes: int) -> Tensor:
        """Return so many bytes."""
        if len(self._bytes) < nbytes:
            self._bytes = torch.zeros(nbytes, dtype=torch.uint8)
        return self._bytes[:nbytes]


class _Arriving(NamedTuple):
    works: Sequence[Any]
    peers: Sequence[int]
    tensors: Sequence[Tensor]


class Crossing:
    """One worker's part in one mix. Begins to receive at once, since that needs nobody of its host.

    Args:
        routes: of the worker.
        chunks: those that it computes, in the order of all workers: the first that is not done can always be, so that
            nobody waits in a circle.
        dtypes: of the pieces that are cut into chunks.
        wire: carries them.
        room: for what arrives.
    """

    def __init__(
        self, routes: Routes, chunks: Sequence[Chunk], dtypes: Sequence[torch.dtype], wire: Wire, room: Room
    ) -> None:
        self._routes = routes
        self._chunks = chunks
        self._dtypes = dtypes
        self._wire = wire
        longest = max(((chunk.end - chunk.begin) * dtypes[chunk.piece].itemsize for chunk in chunks), default=0)
        self._stride = -(-longest // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        self._room = room.of(min(_AWAITED, len(chunks)) * len(routes.arriving) * self._stride)
        self._to_receive = enumerate(chunks)
        self._incoming = deque(self._receive(islice(self._to_receive, _AWAITED)))

    def mix(self, vectors: Sequence[Flat], blocks: Blocks, exchange: Exchange, marks: Marks | None) -> None:
        """Compute the chunks for all members of the component.

        Args:
            vectors: the members'.
            exchange: what is lost if a peer is gone.

        Raises:
            RuntimeError: it is; the message names it.
        """
        to_send = iter(self._chunks)
        outgoing = deque(self._send(islice(to_send, _SENT_AHEAD), vectors))
        if marks is not None:
            marks.posted = now()
        takers = [leaving.takers for leaving in self._routes.leaving]
        for chunk in self._chunks:
            arriving = self._incoming.popleft()
            wait(arriving.works, exchange, arriving.peers, marks)
            wait(outgoing.popleft(), exchange, [_whose(turns, chunk) for turns in takers])
            mine = [vector.tensors[chunk.piece][chunk.begin : chunk.end] for vector in vectors]
            blocks.mix(self._routes.component, [*mine, *arriving.tensors])
            self._incoming += self._receive(islice(self._to_receive, 1))
            outgoing += self._send(islice(to_send, 1), vectors)

    def _receive(self, chunks: Iterable[tuple[int, Chunk]]) -> list[_Arriving]:
        started = []
        for at, chunk in chunks:
            peers = [_whose(turns, chunk) for turns in self._routes.arriving]
            tensors = [self._slot(at, sender, chunk) for sender in range(len(peers))]
            receives = [self._wire.receive(into, peer) for into, peer in zip(tensors, peers, strict=True)]
            started.append(_Arriving(self._wire.post(receives, [])[0], peers, tensors))
        return started

    def _send(self, chunks: Iterable[Chunk], vectors: Sequence[Flat]) -> list[Sequence[Any]]:
        started: list[Sequence[Any]] = []
        for chunk in chunks:
            sends = [
                self._wire.send(vectors[place].tensors[chunk.piece][chunk.begin : chunk.end], _whose(takers, chunk))
                for place, takers in self._routes.leaving
            ]
            started.append(self._wire.post([], sends)[1])
        return started

    def _slot(self, at: int, sender: int, chunk: Chunk) -> Tensor:
        """Return where the chunk, the ``at``-th of this worker, of a sender arrives."""
        dtype = self._dtypes[chunk.piece]
        begin = ((at % _AWAITED) * len(self._routes.arriving) + sender) * self._stride
        return self._room[begin : begin + (chunk.end - chunk.begin) * dtype.itemsize].view(dtype)


def _whose(turns: Sequence[int], chunk: Chunk) -> int:
    return turns[chunk.number % len(turns)]
