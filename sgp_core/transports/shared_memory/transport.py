"""Vectors in memory that all workers of one host share: they are mixed in place, and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor

from sgp_core.distributed.counters import DONE, PUSHED, READ, READY, SharedCounters
from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.host_memory import TOKEN_BYTES, TransportUnavailable, map_segments
from sgp_core.tensors.flat_storage import Sizes
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import difference_scale, weighted_sum
from sgp_core.timeline import Marks, now
from sgp_core.transports.base import MessageContent
from sgp_core.transports.shared_memory.blocked_mixing import BlockedMixer
from sgp_core.transports.shared_memory.mixing_plan import MixingComponent, component_of

_PARAMETERS = 0
"""The number of a worker's first shared vector; the others are its send buffers."""

_ALIGNMENT_BYTES = 128


def send_buffer_count(overlap_steps: int) -> int:
    """Return how many send buffers a worker needs, and as many slots for messages in its counters."""
    return max(1, 2 * overlap_steps)


class SharedMemoryTransport:
    """Exchanges without messages, for workers with their parameters in CPU memory of one host.

    ``mix``: the m workers of a connected component of the step's graph wait for each other. Then each computes one m-th
    of the elements for all of them, in place and block by block. So every value is read once and written once, and
    the results are those of ``p2p`` bit for bit. ``push`` copies the vector into a send buffer, from which the
    out-peers add it when they pull.

    A steady step allocates nothing; there is no thread. Workers that wait for a peer notice if it dies. Its memory is
    freed with the last process that maps it.

    Args:
        counters: with :func:`send_buffer_count` slots.
        overlap_steps: for how many steps a pushed message may be under way when the next is pushed. A worker may be as
            many steps ahead of those it sends to, so there are twice as many send buffers; unused ones cost no memory.
        on_reuse: called with the number of a send buffer that no worker reads any more, before it is used again.
    """

    name = "shared_memory"

    def __init__(
        self, counters: SharedCounters, overlap_steps: int = 0, on_reuse: Callable[[int], None] = lambda buffer: None
    ) -> None:
        self.marks: Marks | None = None
        self.blocks = BlockedMixer()
        self.rank = counters.rank
        self._counters = counters
        self._overlap_steps = overlap_steps
        self._on_reuse = on_reuse
        self._sent: list[_SentMessage | None] = [None] * send_buffer_count(overlap_steps)
        self._vectors: dict[int, list[FlatVector]] = {}
        self._mixes = 0
        self._pushes = 0
        self._unread: set[int] = set()  # messages that have not been pulled
        self._buffer: int | None = None  # the send buffer that is in use
        self._weight = 1.0  # of the message that is being pushed

    def allocate(self, sizes: Sizes) -> list[Tensor]:
        """Allocate vectors of this layout; return the pieces that are to hold the parameters. Collective.

        Raises:
            TransportUnavailable: on all workers alike, if workers that could map each other's memory no longer can.
        """
        offsets, end = [], TOKEN_BYTES
        for _ in range(1 + len(self._sent)):
            for (dtype, _), size in sizes.items():
                end = -(-end // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
                offsets.append((end, size, dtype))
                end += size * dtype.itemsize
        pieces = len(sizes)
        shared = map_segments(end, self._counters.group)
        if shared.hosts != self._counters.hosts:
            raise TransportUnavailable(shared.obstacle)
        for rank, segment in shared.segments.items():
            tensors = [segment.tensor(*place) for place in offsets]
            self._vectors[rank] = [FlatVector(tensors[at : at + pieces]) for at in range(0, len(tensors), pieces)]
        return self._vectors[self.rank][_PARAMETERS].tensors

    # -- exchanges -----------------------------------------------------------------------------------------------
    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``P_ii x + sum_j P_ij x_j`` in place; return the weight mixed in the same way (1 if None).

        Raises:
            PeerLost: a peer is gone.
        """
        component = component_of(exchange.edges, self.rank)
        with self.component_vectors(x, exchange, component, weight) as (vectors, weights):
            self.mix_own_range(component, vectors)
        if weight is None:
            return 1.0
        return exchange.own_weight * weight + weighted_sum(
            exchange.in_weights, [weights[peer] for peer in exchange.in_peers]
        )

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> None:
        """Do nothing: nothing is sent, so there is nothing to begin."""

    def post_ahead(self, x: FlatVector, exchange: Exchange, weight: float | None) -> SharedCombination:
        """Send nothing: what is combined lies where all can read it."""
        return SharedCombination(self, exchange, component_of(exchange.edges, self.rank))

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> SharedMessage:
        """Copy ``x``, or in turn its parts, to a send buffer, which the out-peers read; ``x`` may change at once.

        Raises:
            PeerLost: a peer that should have read an earlier message is gone.
            RuntimeError: more messages are in flight than the algorithm has declared.
        """
        buffer = self.next_send_buffer()
        self.send_buffer(buffer).at(x).copy_(x)
        if x.first:
            self._pushes += 1
            self._weight = 1.0 if weight is None else weight
            self._unread.add(self._pushes)
        if x.last:
            self._buffer = None
            self._sent[buffer] = _SentMessage(self._pushes, exchange)
            self._counters.announce_message(buffer, self._pushes, self._weight)
            self._counters.advance(PUSHED, self._pushes)
        if self.marks is not None:
            self.marks.posted = now()
        return SharedMessage(self, exchange, self._pushes, x, has_weight=weight is not None)

    def scratch(self) -> FlatVector:
        """Return memory of the model's layout that is free until the next ``mix`` or ``push``."""
        return self.send_buffer(self.next_send_buffer())

    def settle(self) -> None:
        """Do nothing: what was pushed lies where it is read."""

    def interrupt(self, why: str) -> None:
        """Let waits for peers fail; for another thread to call."""
        self._counters.interrupt(why)

    # -- a mix -------------------------------------------------------------------------------------------------------
    @contextmanager
    def component_vectors(
        self, x: FlatVector, exchange: Exchange, component: MixingComponent, weight: float | None
    ) -> Iterator[tuple[list[FlatVector], dict[int, float]]]:
        """Wait for the members of a component, and once more when this worker has computed its part for all of them.

        Yields:
            The members' vectors, ``x`` (or a copy, which is copied back) among them, and their PushSum weights.
        """
        counters = self._counters
        self._mixes += 1
        if component.members == (self.rank,):
            yield [x], {self.rank: 1.0 if weight is None else weight}
            return
        vector = self._number_of(x)
        if vector is None:  # it is not in shared memory
            vector = self.next_send_buffer() + 1
            self._vectors[self.rank][vector].copy_(x)
        counters.announce_mix(vector, 1.0 if weight is None else weight)
        counters.advance(READY, self._mixes)
        if self.marks is not None:
            self.marks.posted = now()
        self._wait(READY, self._mixes, component.members, exchange, self.marks)
        mixes = {member: counters.mix_of(member) for member in component.members}
        yield (
            [self._vectors[member][number] for member, (number, _) in mixes.items()],
            {member: theirs for member, (_, theirs) in mixes.items()},
        )
        counters.advance(DONE, self._mixes)
        self._wait(DONE, self._mixes, component.members, exchange, self.marks)
        if self._vectors[self.rank][vector].tensors[0] is not x.tensors[0]:
            x.copy_(self._vectors[self.rank][vector])

    def mix_own_range(self, component: MixingComponent, vectors: list[FlatVector]) -> None:
        """Compute this worker's range of elements for all members, which have no other in-peers."""
        for tensors in zip(*(vector.tensors for vector in vectors), strict=True):
            begin, end = component.range_of(self.rank, tensors[0].numel())
            self.blocks.mix(component, [tensor[begin:end] for tensor in tensors])

    def write_differences(self, component: MixingComponent, exchange: Exchange, vectors: list[FlatVector]) -> None:
        """Compute this worker's range of all members' differences, each in its member's first send buffer."""
        into = [self._vectors[member][_PARAMETERS + 1] for member in component.members]
        for number, tensor in enumerate(vectors[0].tensors):
            begin, end = component.range_of(self.rank, tensor.numel())
            mine, theirs = ([vector.tensors[number][begin:end] for vector in group] for group in (vectors, into))
            self.blocks.differences(component, exchange.edges, mine, theirs)

    def _number_of(self, x: FlatVector) -> int | None:
        mine = self._vectors[self.rank]
        return next((n for n, vector in enumerate(mine) if vector.tensors[0] is x.tensors[0]), None)

    # -- messages ----------------------------------------------------------------------------------------------------
    def next_send_buffer(self) -> int:
        """Return the number of a send buffer that no worker reads any more; the same one until a message is in it."""
        if self._buffer is None:
            buffer = next((buffer for buffer, sent in enumerate(self._sent) if self._is_read(sent)), None)
            if buffer is None:
                buffer = self._wait_for_oldest()
            self._on_reuse(buffer)
            self._buffer = buffer
        return self._buffer

    def _wait_for_oldest(self) -> int:
        """Wait until no worker reads the oldest message any more; return its send buffer."""
        buffer, sent = min(enumerate(self._sent), key=lambda item: item[1].message if item[1] else 0)
        assert sent is not None
        if sent.message in self._unread:
            raise RuntimeError(
                f"more messages are in flight than an algorithm with steps_in_flight={self._overlap_steps} has"
            )
        self._counters.wait(READ, sent.message, sent.exchange.out_peers, sent.exchange)
        return buffer

    def send_buffer(self, number: int) -> FlatVector:
        """Return one of this worker's send buffers."""
        return self._vectors[self.rank][number + 1]

    def _is_read(self, sent: _SentMessage | None) -> bool:
        if sent is None:
            return True
        recent = sent.message > self._pushes + 1 - self._overlap_steps  # it may still be on its way to another host
        return not recent and self._counters.have_reached(READ, sent.message, sent.exchange.out_peers)

    def wait_for_message(
        self, exchange: Exchange, message: int, marks: Marks | None = None
    ) -> tuple[list[FlatVector], list[float]]:
        """Wait for a message of all in-peers; return their vectors, which are only to be read, and their weights."""
        self._wait(PUSHED, message, exchange.in_peers, exchange, marks)
        messages = [(peer, *self._counters.message_of(peer, message)) for peer in exchange.in_peers]
        vectors = [self._vectors[peer][slot + 1] for peer, slot, _ in messages]
        return vectors, [weight for _, _, weight in messages]

    def _wait(self, counter: int, value: int, members: Sequence[int], exchange: Exchange, marks: Marks | None) -> None:
        begin = 0 if marks is None else now()
        self._counters.wait(counter, value, members, exchange)
        if marks is not None:
            marks.waited += now() - begin

    def release(self, message: int) -> None:
        """Let the in-peers use the send buffers of a message again."""
        self._unread.discard(message)
        self._counters.advance(READ, min(self._unread, default=self._pushes + 1) - 1)


class SharedCombination:
    """The vectors of a step, read and combined where they lie. Workers wait for each other when they combine.

    What is kept apart lies in the first send buffer of each worker.

    Args:
        transport: of the vectors.
        exchange: of the step.
        component: the workers that mix together; it has no remote senders.
    """

    def __init__(self, transport: SharedMemoryTransport, exchange: Exchange, component: MixingComponent) -> None:
        self._transport = transport
        self._exchange = exchange
        self._component = component
        self._scale = 0.0

    def combine(self, x: FlatVector, weight: float | None, *, apart: bool, marks: Marks | None = None) -> float:
        transport, exchange, component = self._transport, self._exchange, self._component
        transport.marks = marks
        with transport.component_vectors(x, exchange, component, weight) as (vectors, weights):
            if weight is not None:
                component = component.weighed(exchange.edges, weights)
            if apart:
                transport.write_differences(component, exchange, vectors)
            else:
                transport.mix_own_range(component, vectors)
        arrived = [weights[peer] for peer in exchange.in_peers]
        self._scale = difference_scale(*exchange.shares(weight, arrived)) if apart else 0.0
        return 0.0 if weight is None else weighted_sum(exchange.in_weights, arrived)

    def complete(self, x: FlatVector) -> None:
        if self._scale:
            x.add_(self._transport.send_buffer(0), self._scale)

    def settle(self) -> None:
        """Do nothing: nothing is sent."""

    def release(self) -> None:
        """Do nothing."""


class _SentMessage(NamedTuple):
    """The content of a send buffer."""

    message: int
    exchange: Exchange


class SharedMessage:
    """The vectors, or a part of each, that in-peers have pushed to shared memory."""

    def __init__(
        self, transport: SharedMemoryTransport, exchange: Exchange, message: int, x: FlatVector, *, has_weight: bool
    ) -> None:
        self._transport = transport
        self._exchange = exchange
        self._message = message
        self._part = x
        self._has_weight = has_weight

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        vectors, weights = self.wait(marks)
        for number, mine in enumerate(x.tensors):
            self._transport.blocks.add(mine, [vector.tensors[number] for vector in vectors], self._exchange.in_weights)
        self.discard()
        return weighted_sum(self._exchange.in_weights, weights) if self._has_weight else 0.0

    def wait(self, marks: Marks | None = None) -> tuple[list[FlatVector], list[float]]:
        """Wait for the message; return the vectors of the in-peers, in place, and their weights."""
        vectors, weights = self._transport.wait_for_message(self._exchange, self._message, marks)
        return [vector.at(self._part) for vector in vectors], weights

    def content(self) -> MessageContent:
        vectors, weights = self.wait()
        return [
            ([tensor.clone() for tensor in vector.tensors], weight)
            for vector, weight in zip(vectors, weights, strict=True)
        ]

    def discard(self) -> None:
        """Let the in-peers use its send buffers again."""
        if self._part.last:
            self._transport.release(self._message)
