"""The part of a mix that crosses between hosts: chunks are sent, received and mixed, the next while one is mixed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.point_to_point import PointToPoint, wait
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.timeline import Marks, now
from sgp_core.transports.hierarchical.plan import InterHostPlan, PlanChunk
from sgp_core.transports.shared_memory.blocked_mixing import BlockedMixer

_AWAITED = 8
"""Chunks that a worker has room for at least."""

_ALIGNMENT_BYTES = 64


class ReceiveArena:
    """Where chunks arrive; made once."""

    def __init__(self) -> None:
        self._bytes = torch.zeros(0, dtype=torch.uint8)

    def of(self, nbytes: int) -> Tensor:
        """Return so many bytes."""
        if len(self._bytes) < nbytes:
            self._bytes = torch.zeros(nbytes, dtype=torch.uint8)
        return self._bytes[:nbytes]


class _IncomingChunk(NamedTuple):
    works: Sequence[Any]
    peers: Sequence[int]
    tensors: Sequence[Tensor]


class InterHostMix:
    """One worker's part in one mix. Begins to receive at once, since that needs nobody of its host.

    There is room for as much as the parameters; where more arrives, what is mixed makes room for what is next.

    Args:
        routes: of the worker.
        chunks: those that it computes, in the order of all workers: the first that is not done can always be, so that
            nobody waits in a circle.
        dtypes: of the pieces that are cut into chunks.
        wire: carries them.
        room: for what arrives.
    """

    def __init__(
        self,
        routes: InterHostPlan,
        chunks: Sequence[PlanChunk],
        dtypes: Sequence[torch.dtype],
        wire: PointToPoint,
        room: ReceiveArena,
    ) -> None:
        self._routes = routes
        self._chunks = chunks
        self._dtypes = dtypes
        self._wire = wire
        longest = max(((chunk.end - chunk.begin) * dtypes[chunk.piece].itemsize for chunk in chunks), default=0)
        self._stride = -(-longest // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        senders, members = len(routes.arriving), len(routes.component.members)
        self._awaited = min(len(chunks), max(_AWAITED, len(chunks) * members // max(1, senders)))
        self._room = room.of(self._awaited * senders * self._stride)
        self._to_receive = enumerate(chunks)
        self._incoming = deque(self._receive(islice(self._to_receive, self._awaited)))

    def mix(self, vectors: Sequence[FlatVector], blocks: BlockedMixer, exchange: Exchange, marks: Marks | None) -> None:
        """Compute the chunks for all members of the component.

        Args:
            vectors: the members'.
            exchange: what is lost if a peer is gone.

        Raises:
            RuntimeError: it is; the message names it.
        """
        to_send = iter(self._chunks)
        # "Ready to receive" waits behind what the other way carries, so less may be on its way than there is room for.
        ahead = self._awaited if self._awaited == len(self._chunks) else self._awaited // 2
        outgoing = deque(self._send(islice(to_send, ahead), vectors))
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

    def _receive(self, chunks: Iterable[tuple[int, PlanChunk]]) -> list[_IncomingChunk]:
        """Begin to receive chunks; return each one's works."""
        begun = []
        for at, chunk in chunks:
            peers = [_whose(turns, chunk) for turns in self._routes.arriving]
            begun.append((peers, [self._slot(at, sender, chunk) for sender in range(len(peers))]))
        receives = [self._wire.receive(*what) for peers, into in begun for what in zip(into, peers, strict=True)]
        works, _ = self._wire.post(receives, [])
        return [
            _IncomingChunk(theirs, *what) for theirs, what in zip(self._per_chunk(works, begun), begun, strict=True)
        ]

    def _send(self, chunks: Iterable[PlanChunk], vectors: Sequence[FlatVector]) -> list[list[Any]]:
        """Begin to send chunks; return each one's works."""
        begun = list(chunks)
        sends = [
            self._wire.send(vectors[place].tensors[chunk.piece][chunk.begin : chunk.end], _whose(takers, chunk))
            for chunk in begun
            for place, takers in self._routes.leaving
        ]
        _, works = self._wire.post([], sends)
        return self._per_chunk(works, begun)

    def _slot(self, at: int, sender: int, chunk: PlanChunk) -> Tensor:
        """Return where the chunk, the ``at``-th of this worker, of a sender arrives."""
        dtype = self._dtypes[chunk.piece]
        begin = ((at % self._awaited) * len(self._routes.arriving) + sender) * self._stride
        return self._room[begin : begin + (chunk.end - chunk.begin) * dtype.itemsize].view(dtype)

    @staticmethod
    def _per_chunk(works: list[Any], chunks: Sequence[Any]) -> list[list[Any]]:
        each = len(works) // max(1, len(chunks))
        return [works[at * each : (at + 1) * each] for at in range(len(chunks))]


def _whose(turns: Sequence[int], chunk: PlanChunk) -> int:
    return turns[chunk.number % len(turns)]
