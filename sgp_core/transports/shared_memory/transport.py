"""Vectors in memory that all workers of one host share: they are mixed where they lie, and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.host_memory import TOKEN_BYTES, TransportUnavailable, map_segments
from sgp_core.tensors.flat_storage import Sizes
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import weighted_sum
from sgp_core.timeline import Marks, now
from sgp_core.transports.base import MessageContent
from sgp_core.transports.shared_memory.blocked_mixing import BlockedMixer
from sgp_core.transports.shared_memory.counters import DONE, PUSHED, READ, READY, SharedCounters
from sgp_core.transports.shared_memory.mixing_plan import MixingComponent, component_of

_PARAMETERS = 0
"""Of a worker's shared vectors the first; the others are its outboxes."""

_ALIGNMENT_BYTES = 128


def send_buffer_count(overlap_steps: int) -> int:
    """Return how many outboxes a worker needs: the vectors it shares, beside the first, and the board's slots."""
    return max(1, 2 * overlap_steps)


class SharedMemoryTransport:
    """Exchanges without messages, for workers with their parameters in CPU memory of one host.

    ``mix``: workers that edges of the step join, m of them, each compute the new values of one m-th of the elements for
    all of them, in place and block by block, once all have come. So every value is read once and written once, and
    the numbers are those of ``p2p`` bit for bit. ``push`` copies the vector into an outbox, from which the
    out-peers add it when they pull.

    A steady step allocates nothing; there is no thread. A worker that dies takes part in nothing more, which the
    others notice while they wait for it; its memory goes with the last process that maps it.

    Args:
        board: of the workers, with :func:`send_buffer_count` slots.
        overlap_steps: how many steps a pushed message may be under way when the next is pushed. A worker may be as
            many steps ahead of those it sends to, so there are twice as many outboxes; untouched ones use no memory.
        vacate: called with the number of an outbox that no worker reads any more, before it is used again.
    """

    name = "shared_memory"

    def __init__(
        self, board: SharedCounters, overlap_steps: int = 0, vacate: Callable[[int], None] = lambda outbox: None
    ) -> None:
        self.marks: Marks | None = None
        self.blocks = BlockedMixer()
        self.rank = board.rank
        self._board = board
        self._overlap_steps = overlap_steps
        self._vacate = vacate
        self._outboxes: list[_SentMessage | None] = [None] * send_buffer_count(overlap_steps)
        self._vectors: dict[int, list[FlatVector]] = {}
        self._mixes = 0
        self._pushes = 0
        self._unread: set[int] = set()  # messages that have not been pulled
        self._chosen: int | None = None
        self._weight = 1.0  # of the message that is being pushed

    def allocate(self, sizes: Sizes) -> list[Tensor]:
        """Make room for vectors of this layout; return the pieces in which the parameters are to live. Collective.

        Raises:
            NotShared: on all workers alike, if those that could map each other's memory cannot any more.
        """
        offsets, end = [], TOKEN_BYTES
        for _ in range(1 + len(self._outboxes)):
            for (dtype, _), size in sizes.items():
                end = -(-end // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
                offsets.append((end, size, dtype))
                end += size * dtype.itemsize
        pieces = len(sizes)
        shared = map_segments(end, self._board.group)
        if shared.hosts != self._board.hosts:
            raise TransportUnavailable(shared.why)
        for rank, segment in shared.segments.items():
            tensors = [segment.tensor(*place) for place in offsets]
            self._vectors[rank] = [FlatVector(tensors[at : at + pieces]) for at in range(0, len(tensors), pieces)]
        return self._vectors[self.rank][_PARAMETERS].tensors

    # -- the two verbs -----------------------------------------------------------------------------------------------
    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``own x + sum_j share_j x_j`` in place; return the weight mixed alike (1 if None).

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        component = component_of(exchange.edges, self.rank)
        with self.gathered(x, exchange, component, weight) as (vectors, weights):
            self.mix_stretch(component, vectors)
        if weight is None:
            return 1.0
        return exchange.own_weight * weight + weighted_sum(
            exchange.in_weights, [weights[peer] for peer in exchange.in_peers]
        )

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> None:
        """Do nothing: nothing travels, so there is nothing to begin."""

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> SharedMessage:
        """Copy ``x``, or in turn its parts, to where the out-peers find it; it may be changed at once.

        Raises:
            RuntimeError: a peer that should have read an earlier message is gone.
        """
        slot, mine = self.outbox(), self._vectors[self.rank]
        mine[slot + 1].at(x).copy_(x)
        if x.first:
            self._pushes += 1
            self._weight = 1.0 if weight is None else weight
            self._unread.add(self._pushes)
        if x.last:
            self._chosen = None
            self._outboxes[slot] = _SentMessage(self._pushes, exchange)
            self._board.set_sent(slot, self._pushes, self._weight)
            self._board.raise_to(PUSHED, self._pushes)
        if self.marks is not None:
            self.marks.posted = now()
        return SharedMessage(self, exchange, self._pushes, x, has_weight=weight is not None)

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""
        return self.outbox_vector(self.outbox())

    def settle(self) -> None:
        """Nothing is under way: what was sent lies where it is read."""

    # -- a mix -------------------------------------------------------------------------------------------------------
    @contextmanager
    def gathered(
        self, x: FlatVector, exchange: Exchange, component: MixingComponent, weight: float | None
    ) -> Iterator[tuple[list[FlatVector], dict[int, float]]]:
        """Wait for the members of a component before, and after, this worker does its part for all of them.

        Yields:
            The members' vectors, ``x`` (or a copy, brought back afterwards) among them, and their PushSum weights.
        """
        board = self._board
        self._mixes += 1
        if component.members == (self.rank,):
            yield [x], {self.rank: 1.0 if weight is None else weight}
            return
        vector = self._number_of(x)
        if vector is None:  # not one that others can reach
            vector = self.outbox() + 1
            self._vectors[self.rank][vector].copy_(x)
        board.set_mixed(vector, 1.0 if weight is None else weight)
        board.raise_to(READY, self._mixes)
        if self.marks is not None:
            self.marks.posted = now()
        self._wait(READY, self._mixes, component.members, exchange, self.marks)
        said = {member: board.mixed(member) for member in component.members}
        yield (
            [self._vectors[member][number] for member, (number, _) in said.items()],
            {member: theirs for member, (_, theirs) in said.items()},
        )
        board.raise_to(DONE, self._mixes)
        self._wait(DONE, self._mixes, component.members, exchange, self.marks)
        if self._vectors[self.rank][vector].tensors[0] is not x.tensors[0]:
            x.copy_(self._vectors[self.rank][vector])

    def mix_stretch(self, component: MixingComponent, vectors: list[FlatVector]) -> None:
        """Compute this worker's stretch of the new vectors of all members, who have no other in-peers."""
        for tensors in zip(*(vector.tensors for vector in vectors), strict=True):
            begin, end = component.stretch(self.rank, tensors[0].numel())
            self.blocks.mix(component, [tensor[begin:end] for tensor in tensors])

    def _number_of(self, x: FlatVector) -> int | None:
        mine = self._vectors[self.rank]
        return next((n for n, vector in enumerate(mine) if vector.tensors[0] is x.tensors[0]), None)

    # -- messages ----------------------------------------------------------------------------------------------------
    def outbox(self) -> int:
        """Return an outbox that nobody reads any more; the same one until it is pushed from."""
        if self._chosen is None:
            slot = next((slot for slot, sent in enumerate(self._outboxes) if self._is_read(sent)), None)
            if slot is None:
                slot = self._oldest()
            self._vacate(slot)
            self._chosen = slot
        return self._chosen

    def _oldest(self) -> int:
        """Wait until nobody reads the outbox that was pushed from first; return it."""
        slot, sent = min(enumerate(self._outboxes), key=lambda item: item[1].message if item[1] else 0)
        assert sent is not None
        if sent.message in self._unread:
            raise RuntimeError(
                f"more messages are in flight than an algorithm with steps_in_flight={self._overlap_steps} has"
            )
        self._board.wait(READ, sent.message, sent.exchange.out_peers, sent.exchange)
        return slot

    def outbox_vector(self, slot: int) -> FlatVector:
        """Return where the vector in an outbox of this worker lies."""
        return self._vectors[self.rank][slot + 1]

    def _is_read(self, sent: _SentMessage | None) -> bool:
        if sent is None:
            return True
        young = sent.message > self._pushes + 1 - self._overlap_steps  # may well be under way to another host
        return not young and self._board.has(READ, sent.message, sent.exchange.out_peers)

    def arrived(
        self, exchange: Exchange, message: int, marks: Marks | None = None
    ) -> tuple[list[FlatVector], list[float]]:
        """Wait for a message of all in-peers; return their vectors, which are not this worker's, and their weights."""
        self._wait(PUSHED, message, exchange.in_peers, exchange, marks)
        lie = [(peer, *self._board.sent(peer, message)) for peer in exchange.in_peers]
        return [self._vectors[peer][slot + 1] for peer, slot, _ in lie], [weight for _, _, weight in lie]

    def _wait(self, what: int, number: int, members: Sequence[int], exchange: Exchange, marks: Marks | None) -> None:
        begin = 0 if marks is None else now()
        self._board.wait(what, number, members, exchange)
        if marks is not None:
            marks.waited += now() - begin

    def finished_with(self, message: int) -> None:
        """Let the in-peers use again the memory in which a message lies."""
        self._unread.discard(message)
        self._board.raise_to(READ, min(self._unread, default=self._pushes + 1) - 1)


class _SentMessage(NamedTuple):
    """What an outbox holds."""

    message: int
    exchange: Exchange


class SharedMessage:
    """What :meth:`SharedMemoryTransport.push` has begun."""

    def __init__(
        self, transport: SharedMemoryTransport, exchange: Exchange, message: int, x: FlatVector, *, has_weight: bool
    ) -> None:
        self._transport = transport
        self._exchange = exchange
        self._message = message
        self._part = x
        self._has_weight = has_weight

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        vectors, weights = self.arrived(marks)
        for number, mine in enumerate(x.tensors):
            self._transport.blocks.add(mine, [vector.tensors[number] for vector in vectors], self._exchange.in_weights)
        self.discard()
        return weighted_sum(self._exchange.in_weights, weights) if self._has_weight else 0.0

    def arrived(self, marks: Marks | None = None) -> tuple[list[FlatVector], list[float]]:
        """Wait for it; return the vectors of the in-peers, where they lie, and their weights."""
        vectors, weights = self._transport.arrived(self._exchange, self._message, marks)
        return [vector.at(self._part) for vector in vectors], weights

    def content(self) -> MessageContent:
        vectors, weights = self.arrived()
        return [
            ([tensor.clone() for tensor in vector.tensors], weight)
            for vector, weight in zip(vectors, weights, strict=True)
        ]

    def discard(self) -> None:
        """Let the in-peers go on without it."""
        if self._part.last:
            self._transport.finished_with(self._message)
