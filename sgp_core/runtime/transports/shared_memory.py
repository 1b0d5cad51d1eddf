"""Vectors in memory that all workers of one host share: they are mixed where they lie, and nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.flat import Flat
from sgp_core.runtime.mixing import GRAIN, mix_all_
from sgp_core.runtime.storage import Sizes
from sgp_core.runtime.transports.base import Content, Exchange
from sgp_core.runtime.transports.board import DONE, PUSHED, READ, READY, Board
from sgp_core.runtime.transports.components import Component, component_of
from sgp_core.runtime.transports.segments import TOKEN_BYTES, share
from sgp_core.timeline import Marks, now

_PARAMETERS = 0
"""Of a worker's shared vectors the first; the others are its outboxes."""

_CACHE_BYTES = 2 << 20
"""Of what a core works on at a time: few enough to stay near it, enough that Python's share of the time is small."""

_ALIGNMENT_BYTES = 128


class SharedMemoryTransport:
    """Exchanges without messages, for workers with their parameters in CPU memory of one host.

    ``mix``: workers that edges of the step join, m of them, each compute the new values of one m-th of the elements for
    all of them, in place and block by block, once all have come. So every value is read once and written once, and
    the numbers are those of ``p2p`` bit for bit. ``push`` copies the vector into an outbox, from which the
    out-peers add it when they pull.

    A steady step allocates nothing; there is no thread. A worker that dies takes part in nothing more, which the
    others notice while they wait for it; its memory goes with the last process that maps it.

    Args:
        group: the process group, None for the default one. Collective.
        overlap_steps: how many steps a pushed message may be under way when the next is pushed. A worker may be as
            many steps ahead of those it sends to, so there are twice as many outboxes; untouched ones use no memory.

    Raises:
        NotShared: on all workers alike, if any cannot map any other's memory.
    """

    name = "shared_memory"

    def __init__(self, group: dist.ProcessGroup | None, overlap_steps: int = 0) -> None:
        self.marks: Marks | None = None
        self._group = group
        self._overlap_steps = overlap_steps
        self._outboxes: list[_Sent | None] = [None] * max(1, 2 * overlap_steps)
        self._board = Board(group, len(self._outboxes))
        self.rank = self._board.rank
        self._vectors: list[list[Flat]] = []
        self._threads = torch.get_num_threads()
        self._room: dict[torch.dtype, Tensor] = {}
        self._mixes = 0
        self._pushes = 0
        self._unread: dict[int, int] = {}  # messages not pulled, and how many of their elements that is
        self._chosen: int | None = None
        self._pushed, self._weight = 0, 1.0  # elements of the message that is being pushed, and its weight

    def allocate(self, sizes: Sizes) -> list[Tensor]:
        """Make room for vectors of this layout; return the pieces in which the parameters are to live. Collective."""
        offsets, end = [], TOKEN_BYTES
        for _ in range(1 + len(self._outboxes)):
            for (dtype, _), size in sizes.items():
                end = -(-end // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
                offsets.append((end, size, dtype))
                end += size * dtype.itemsize
        pieces = len(sizes)
        for segment in share(end, self._group):
            tensors = [segment.tensor(*place) for place in offsets]
            self._vectors.append([Flat(tensors[at : at + pieces]) for at in range(0, len(tensors), pieces)])
        return self._vectors[self.rank][_PARAMETERS].tensors

    # -- the two verbs -----------------------------------------------------------------------------------------------
    def mix(self, x: Flat, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``own x + sum_j share_j x_j`` in place; return the weight mixed alike (1 if None).

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        component, board = component_of(exchange.edges, self.rank), self._board
        vector = self._number_of(x)
        if vector is None:  # not one that others can reach
            vector = self._free_outbox() + 1
            self._vectors[self.rank][vector].copy_(x)
        self._mixes += 1
        board.set_mixed(vector, 1.0 if weight is None else weight)
        board.raise_to(READY, self._mixes)
        if self.marks is not None:
            self.marks.posted = now()
        self._wait(READY, self._mixes, component.members, exchange, self.marks)
        said = {member: board.mixed(member) for member in component.members}
        self._mix_stretch(component, [self._vectors[member][number] for member, (number, _) in said.items()])
        board.raise_to(DONE, self._mixes)
        self._wait(DONE, self._mixes, component.members, exchange, self.marks)
        if self._vectors[self.rank][vector].tensors[0] is not x.tensors[0]:
            x.copy_(self._vectors[self.rank][vector])
        if weight is None:
            return 1.0
        return exchange.own * weight + _weighed(exchange, [said[peer][1] for peer in exchange.in_peers])

    def post(self, x: Flat, exchange: Exchange, weight: float | None) -> None:
        """Do nothing: nothing travels, so there is nothing to begin."""

    def push(self, x: Flat, exchange: Exchange, weight: float | None) -> SharedMessage:
        """Copy ``x``, or in turn its parts, to where the out-peers find it; it may be changed at once.

        Raises:
            RuntimeError: a peer that should have read an earlier message is gone.
        """
        slot, mine = self._free_outbox(), self._vectors[self.rank]
        mine[slot + 1].at(x).copy_(x)
        if weight is not None:  # the first part
            self._pushes += 1
            self._weight = weight
            self._unread[self._pushes] = mine[_PARAMETERS].numel
        self._pushed += x.numel
        if self._pushed == mine[_PARAMETERS].numel:
            self._pushed, self._chosen = 0, None
            self._outboxes[slot] = _Sent(self._pushes, exchange)
            self._board.set_sent(slot, self._pushes, self._weight)
            self._board.raise_to(PUSHED, self._pushes)
        if self.marks is not None:
            self.marks.posted = now()
        return SharedMessage(self, exchange, self._pushes, x, weighed=weight is not None)

    def scratch(self) -> Flat:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""
        return self._vectors[self.rank][self._free_outbox() + 1]

    def settle(self) -> None:
        """Nothing is under way: what was sent lies where it is read."""

    # -- a mix -------------------------------------------------------------------------------------------------------
    def _number_of(self, x: Flat) -> int | None:
        mine = self._vectors[self.rank]
        return next((n for n, vector in enumerate(mine) if vector.tensors[0] is x.tensors[0]), None)

    def _mix_stretch(self, component: Component, vectors: list[Flat]) -> None:
        for tensors in zip(*(vector.tensors for vector in vectors), strict=True):
            begin, end = component.stretch(self.rank, tensors[0].numel())
            if begin == end:
                continue
            size = min(self._block_of(len(vectors) + component.buffers, tensors[0]), end - begin)
            buffers = self._room_for(component.buffers * size, tensors[0].dtype).split(size)
            for blocks in zip(*(tensor[begin:end].split(size) for tensor in tensors), strict=True):
                if len(blocks[0]) < size:
                    buffers = tuple(buffer[: len(blocks[0])] for buffer in buffers)
                at = [*blocks, *buffers]
                for place, keep, own, sources, shares in component.turns:
                    if keep is not None:
                        at[keep].copy_(at[place])
                    mix_all_(at[place], own, [at[source] for source in sources], shares)

    def _block_of(self, together: int, like: Tensor) -> int:
        """Return how many elements a block has, so that ``together`` of them stay in the cache of each core."""
        grains = max(1, _CACHE_BYTES // (together * like.element_size() * GRAIN))
        return grains * GRAIN * self._threads

    def _room_for(self, elements: int, dtype: torch.dtype) -> Tensor:
        if dtype not in self._room or len(self._room[dtype]) < elements:
            self._room[dtype] = torch.zeros(elements, dtype=dtype)
        return self._room[dtype][:elements]

    # -- messages ----------------------------------------------------------------------------------------------------
    def _free_outbox(self) -> int:
        """Return an outbox that nobody reads any more; the same one until it is pushed from."""
        if self._chosen is None:
            self._chosen = next((slot for slot, sent in enumerate(self._outboxes) if self._is_read(sent)), None)
        if self._chosen is None:
            slot, sent = min(enumerate(self._outboxes), key=lambda item: item[1].message if item[1] else 0)
            assert sent is not None
            if sent.message in self._unread:
                raise RuntimeError(
                    f"more messages are in flight than an algorithm with steps_in_flight={self._overlap_steps} has"
                )
            self._board.wait(READ, sent.message, sent.exchange.out_peers, sent.exchange)
            self._chosen = slot
        return self._chosen

    def _is_read(self, sent: _Sent | None) -> bool:
        return sent is None or self._board.has(READ, sent.message, sent.exchange.out_peers)

    def arrived(self, exchange: Exchange, message: int, marks: Marks | None = None) -> Iterator[tuple[Flat, float]]:
        """Wait for a message of all in-peers; yield their vectors, which are not this worker's, and their weights."""
        self._wait(PUSHED, message, exchange.in_peers, exchange, marks)
        for peer in exchange.in_peers:
            slot, weight = self._board.sent(peer, message)
            yield self._vectors[peer][slot + 1], weight

    def _wait(self, what: int, number: int, members: Sequence[int], exchange: Exchange, marks: Marks | None) -> None:
        begin = 0 if marks is None else now()
        self._board.wait(what, number, members, exchange)
        if marks is not None:
            marks.waited += now() - begin

    def finished_with(self, message: int, elements: int) -> None:
        """Count what of a message is no longer needed; in the end let the in-peers use again where it lies."""
        self._unread[message] -= elements
        if self._unread[message]:
            return
        del self._unread[message]
        self._board.raise_to(READ, min(self._unread, default=self._pushes + 1) - 1)

    def add(self, x: Flat, vectors: list[Flat], shares: Sequence[float]) -> None:
        """Add ``sum_j share_j vector_j`` to ``x``."""
        for mine, *theirs in zip(x.tensors, *(vector.tensors for vector in vectors), strict=True):
            size = self._block_of(1 + len(vectors), mine)
            for block, *received in zip(*(tensor.split(size) for tensor in (mine, *theirs)), strict=True):
                mix_all_(block, 1.0, received, shares)


class _Sent(NamedTuple):
    """What an outbox holds."""

    message: int
    exchange: Exchange


class SharedMessage:
    """What :meth:`SharedMemoryTransport.push` has begun."""

    def __init__(
        self, transport: SharedMemoryTransport, exchange: Exchange, message: int, x: Flat, *, weighed: bool
    ) -> None:
        self._transport = transport
        self._exchange = exchange
        self._message = message
        self._part = x
        self._weighed = weighed

    def add_to(self, x: Flat, marks: Marks | None = None) -> float:
        arrived = list(self._transport.arrived(self._exchange, self._message, marks))
        self._transport.add(x, [vector.at(self._part) for vector, _ in arrived], self._exchange.shares)
        self.discard()
        return _weighed(self._exchange, [weight for _, weight in arrived]) if self._weighed else 0.0

    def content(self) -> Content:
        arrived = self._transport.arrived(self._exchange, self._message)
        return [([tensor.clone() for tensor in vector.at(self._part).tensors], weight) for vector, weight in arrived]

    def discard(self) -> None:
        """Let the in-peers go on without it."""
        self._transport.finished_with(self._message, self._part.numel)


def _weighed(exchange: Exchange, weights: list[float]) -> float:
    total = 0.0
    for share_, weight in zip(exchange.shares, weights, strict=True):
        total += share_ * weight
    return total
