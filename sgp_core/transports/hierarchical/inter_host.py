"""The part of a mix that involves other hosts: chunks are received and sent while earlier ones are mixed."""

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

_MIN_RECEIVES = 8
"""The least number of chunks that a worker can receive at a time."""

_ALIGNMENT_BYTES = 64


class ReceiveArena:
    """Memory in which chunks arrive, allocated once."""

    def __init__(self) -> None:
        self._bytes = torch.zeros(0, dtype=torch.uint8)

    def take(self, nbytes: int) -> Tensor:
        """Return ``nbytes`` bytes: always the same memory, larger if need be."""
        if len(self._bytes) < nbytes:
            self._bytes = torch.zeros(nbytes, dtype=torch.uint8)
        return self._bytes[:nbytes]


class _IncomingChunk(NamedTuple):
    works: Sequence[Any]
    peers: Sequence[int]
    tensors: Sequence[Tensor]


class InterHostMix:
    """One worker's part in one mix. It begins to receive at once, which needs no other worker of its host.

    The memory for incoming chunks is as large as the parameters; where more arrives, it is reused after each chunk.

    Args:
        plan: the messages of the worker's component.
        chunks: the chunks that the worker computes, in an order that is the same on all workers. The first chunk that
            is not done can always be computed, so there is no deadlock.
        dtypes: the dtypes of the pieces that the chunks are cut from.
        messages: sends and receives the chunks.
        arena: memory for incoming chunks.
        exchange: what fails if a peer is missed.
    """

    def __init__(
        self,
        plan: InterHostPlan,
        chunks: Sequence[PlanChunk],
        dtypes: Sequence[torch.dtype],
        messages: PointToPoint,
        arena: ReceiveArena,
        exchange: Exchange,
    ) -> None:
        self._plan = plan
        self._chunks = chunks
        self._dtypes = dtypes
        self._messages = messages
        self._exchange = exchange
        longest = max(((chunk.end - chunk.begin) * dtypes[chunk.piece].itemsize for chunk in chunks), default=0)
        self._stride = -(-longest // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        senders, members = len(plan.incoming), len(plan.component.members)
        self._depth = min(len(chunks), max(_MIN_RECEIVES, len(chunks) * members // max(1, senders)))
        self._memory = arena.take(self._depth * senders * self._stride)
        self._to_receive = enumerate(chunks)
        self._incoming = deque(self._receive(islice(self._to_receive, self._depth)))

    def mix(self, vectors: Sequence[FlatVector], blocks: BlockedMixer, marks: Marks | None) -> None:
        """Compute the chunks for all members of the component.

        Args:
            vectors: the members' vectors.
            blocks: does the arithmetic.
            marks: records times, unless None.

        Raises:
            PeerLost: a peer is gone.
        """
        exchange, to_send = self._exchange, iter(self._chunks)
        # gloo's "ready to receive" queues behind the data of the other direction, so fewer chunks are sent ahead than
        # the receiver has memory for.
        ahead = self._depth if self._depth == len(self._chunks) else self._depth // 2
        outgoing = deque(self._send(islice(to_send, ahead), vectors))
        if marks is not None:
            marks.posted = now()
        receivers = [vector.receivers for vector in self._plan.outgoing]
        for chunk in self._chunks:
            incoming = self._incoming.popleft()
            wait(incoming.works, exchange, incoming.peers, marks)
            wait(outgoing.popleft(), exchange, [_peer_of(chunk, peers) for peers in receivers])
            mine = [vector.tensors[chunk.piece][chunk.begin : chunk.end] for vector in vectors]
            blocks.mix(self._plan.component, [*mine, *incoming.tensors])
            self._incoming += self._receive(islice(self._to_receive, 1))
            outgoing += self._send(islice(to_send, 1), vectors)

    def _receive(self, chunks: Iterable[tuple[int, PlanChunk]]) -> list[_IncomingChunk]:
        """Begin to receive chunks; return the works and the tensors of each."""
        begun = []
        for at, chunk in chunks:
            peers = [_peer_of(chunk, members) for members in self._plan.incoming]
            begun.append((peers, [self._slot(at, sender, chunk) for sender in range(len(peers))]))
        receives = [self._messages.receive(*r) for peers, into in begun for r in zip(into, peers, strict=True)]
        works, _ = self._messages.post(receives, [], self._exchange)
        return [
            _IncomingChunk(theirs, *rest) for theirs, rest in zip(self._per_chunk(works, begun), begun, strict=True)
        ]

    def _send(self, chunks: Iterable[PlanChunk], vectors: Sequence[FlatVector]) -> list[list[Any]]:
        """Begin to send chunks; return the works of each."""
        begun = list(chunks)
        sends = [
            self._messages.send(
                vectors[place].tensors[chunk.piece][chunk.begin : chunk.end], _peer_of(chunk, receivers)
            )
            for chunk in begun
            for place, receivers in self._plan.outgoing
        ]
        _, works = self._messages.post([], sends, self._exchange)
        return self._per_chunk(works, begun)

    def _slot(self, at: int, sender: int, chunk: PlanChunk) -> Tensor:
        """Return where this worker's ``at``-th chunk arrives from a sender."""
        dtype = self._dtypes[chunk.piece]
        begin = ((at % self._depth) * len(self._plan.incoming) + sender) * self._stride
        return self._memory[begin : begin + (chunk.end - chunk.begin) * dtype.itemsize].view(dtype)

    @staticmethod
    def _per_chunk(works: list[Any], chunks: Sequence[Any]) -> list[list[Any]]:
        each = len(works) // max(1, len(chunks))
        return [works[at * each : (at + 1) * each] for at in range(len(chunks))]


def _peer_of(chunk: PlanChunk, members: Sequence[int]) -> int:
    """Return the member of a remote component whose turn it is to exchange a chunk."""
    return members[chunk.number % len(members)]
