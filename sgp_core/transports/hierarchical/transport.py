"""Exchanges in shared memory inside each host, and by messages between hosts."""

from __future__ import annotations

import torch
from torch import Tensor

from sgp_core.distributed.counters import SharedCounters
from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.point_to_point import PointToPoint, WeightMessages
from sgp_core.tensors.flat_storage import Sizes
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import weighted_sum
from sgp_core.timeline import Marks
from sgp_core.transports.base import MessageContent
from sgp_core.transports.hierarchical.combination import HierarchicalCombination
from sgp_core.transports.hierarchical.inter_host import InterHostMix, ReceiveArena
from sgp_core.transports.hierarchical.plan import InterHostPlan, plan_of, split_into_chunks
from sgp_core.transports.p2p.buffers import SendBuffer, chunks_of
from sgp_core.transports.p2p.pending_message import MessageChannel, PendingMessage
from sgp_core.transports.shared_memory.blocked_mixing import BlockedMixer
from sgp_core.transports.shared_memory.mixing_plan import component_of
from sgp_core.transports.shared_memory.transport import SharedMemoryTransport, SharedMessage, send_buffer_count


class HierarchicalTransport:
    """Exchanges in memory inside a host, by messages between hosts, for workers with their parameters in CPU memory.

    ``mix``: a component is m workers of one host that edges of the step connect. Each of them computes one m-th of the
    elements for all of them, in place. A vector that a component needs from another host is sent to it once, by the
    workers that compute the same elements there. So each worker sends, receives and mixes an m-th; a worker changes
    only elements that it has sent itself; and the results are those of ``p2p`` bit for bit. Vectors travel chunk by
    chunk, the next while one is mixed, in the same order on all workers: the first chunk that is not done can always
    be computed, so there is no deadlock.

    ``push`` copies the vector into a send buffer once. Out-peers of the same host read it there; to others it is sent.

    ``post_ahead`` sends from the vector itself to out-peers of other hosts, without waiting for any worker; what comes
    from the same host is read where it lies when it is combined, see :class:`HierarchicalCombination`.

    A steady step allocates nothing; there is no thread, and no process group beside the one given. ``mix`` takes as
    much memory again as the parameters; ``push`` takes the send buffers and receive buffers of both kinds.

    Args:
        counters: with :func:`send_buffer_count` slots.
        overlap_steps: for how many steps a pushed message may be under way when the next is pushed.
    """

    name = "hierarchical"

    def __init__(self, counters: SharedCounters, overlap_steps: int = 0) -> None:
        self.rank = counters.rank
        self._hosts = counters.hosts
        self._host = counters.host
        self._local = frozenset(self._host)
        self._remote = frozenset(rank for host in counters.hosts for rank in host) - self._local
        self._send_buffers = buffers = list[SendBuffer]()
        self._shared = SharedMemoryTransport(counters, overlap_steps, lambda number: buffers[number].settle())
        self._messages = PointToPoint(counters.group)
        self._weights = WeightMessages(self._messages, torch.device("cpu"))
        self._pieces: list[Tensor] = []
        self._arena = ReceiveArena()
        self._slots = send_buffer_count(overlap_steps)
        self._channel: MessageChannel | None = None

    def allocate(self, sizes: Sizes) -> list[Tensor]:
        """Allocate vectors of this layout; return the pieces that are to hold the parameters. Collective.

        Raises:
            TransportUnavailable: on all workers alike, if workers that could map each other's memory no longer can.
        """
        self._pieces = self._shared.allocate(sizes)
        self._channel = MessageChannel(FlatVector(self._pieces), self._messages)
        self._send_buffers += [SendBuffer(self._shared.send_buffer(number)) for number in range(self._slots)]
        return self._pieces

    @property
    def marks(self) -> Marks | None:
        """Records the times of the next exchange, unless None."""
        return self._shared.marks

    @marks.setter
    def marks(self, marks: Marks | None) -> None:
        self._shared.marks = marks

    # -- exchanges -----------------------------------------------------------------------------------------------
    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``P_ii x + sum_j P_ij x_j`` in place; return the weight mixed in the same way (1 if None).

        Raises:
            PeerLost: a peer is gone.
        """
        plan = plan_of(exchange.edges, self.rank, self._hosts)
        remote = exchange.among(self._remote)
        if weight is not None:
            self._weights.post(weight, remote)
        inter_host = self._begin_inter_host(plan, exchange)
        with self._shared.component_vectors(x, exchange, plan.component, weight) as (vectors, weights):
            if inter_host is None:
                self._shared.mix_own_range(plan.component, vectors)
            else:
                inter_host.mix(vectors, self._shared.blocks, self.marks)
        if weight is None:
            return 1.0
        weights |= dict(zip(remote.in_peers, self._weights.wait(), strict=True))
        return exchange.own_weight * weight + weighted_sum(
            exchange.in_weights, [weights[peer] for peer in exchange.in_peers]
        )

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> None:
        """Do nothing: a vector is sent by other workers than its owner, who wait until it is there."""

    def post_ahead(self, x: FlatVector, exchange: Exchange, weight: float | None) -> HierarchicalCombination:
        """Begin to send ``x``, the parameters' own memory, to other hosts, and to receive from there.

        It takes a receive buffer for each in-peer of other hosts, and one at least.
        """
        assert self._channel is not None, "allocate() was not called"
        component = component_of(exchange.edges, self.rank, self._host)
        pending = self._channel.post(x, exchange.among(self._remote), weight, self.marks)
        return HierarchicalCombination(self._shared, exchange, component, pending)

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> HierarchicalMessage:
        """Copy ``x``, or in turn its parts, to a send buffer, which out-peers of this host read; send it to the others.

        Raises:
            PeerLost: a peer that should have received an earlier message is gone.
            RuntimeError: more messages are in flight than the algorithm has declared.
        """
        assert self._channel is not None, "allocate() was not called"
        for buffer in self._send_buffers:  # peers decide by when they read which is next: prepare all at the first step
            buffer.chunks(x)
        buffer = self._send_buffers[self._shared.next_send_buffer()]
        local, remote = exchange.among(self._local), exchange.among(self._remote)
        in_memory = self._shared.push(x, local, weight)
        pending = self._channel.send(
            buffer, x, remote, weight, self.marks, max_in_degree=exchange.in_degree, copied=True
        )
        return HierarchicalMessage(
            self._shared.blocks, exchange, local.in_peers, in_memory, pending, has_weight=weight is not None
        )

    def scratch(self) -> FlatVector:
        """Return memory of the model's layout that is free until the next ``mix`` or ``push``."""
        return self._shared.scratch()

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""
        for buffer in self._send_buffers:
            buffer.settle()

    def interrupt(self, why: str) -> None:
        """Let waits for peers of the same host fail; for another thread to call."""
        self._shared.interrupt(why)

    def _begin_inter_host(self, plan: InterHostPlan, exchange: Exchange) -> InterHostMix | None:
        """Begin to receive the chunks that this worker computes, if its component exchanges any with other hosts."""
        if not (plan.incoming or plan.outgoing):
            return None
        members = plan.component.members
        sizes = tuple((piece.numel(), piece.element_size()) for piece in self._pieces)
        chunks = split_into_chunks(sizes, plan.max_senders, self._hosts)
        mine = chunks[members.index(self.rank) :: len(members)]
        dtypes = [piece.dtype for piece in self._pieces]
        return InterHostMix(plan, mine, dtypes, self._messages, self._arena, exchange)


class HierarchicalMessage:
    """A pushed message: the vectors of local in-peers lie in shared memory, those of remote in-peers are under way.

    Args:
        blocks: does the arithmetic.
        exchange: the exchange with all peers.
        local: the in-peers of this host.
        in_memory: the message of the local in-peers.
        pending: the message of the remote in-peers.
        has_weight: whether PushSum weights travel with it.
    """

    def __init__(
        self,
        blocks: BlockedMixer,
        exchange: Exchange,
        local: tuple[int, ...],
        in_memory: SharedMessage,
        pending: PendingMessage,
        *,
        has_weight: bool,
    ) -> None:
        self._blocks = blocks
        self._exchange = exchange
        self._local = local
        self._in_memory = in_memory
        self._pending = pending
        self._has_weight = has_weight

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        exchange = self._exchange
        vectors, weights = self._in_memory.wait(marks)
        local = [chunks_of(vector) for vector in vectors]
        for at, (chunk, slots) in enumerate(zip(chunks_of(x), self._pending.chunks(marks), strict=True)):
            received = exchange.merge(self._local, [theirs[at] for theirs in local], slots)
            self._blocks.add(chunk, received, exchange.in_weights)
        weights = exchange.merge(self._local, weights, self._pending.weights)
        self._pending.release()
        self._in_memory.discard()
        return weighted_sum(exchange.in_weights, weights) if self._has_weight else 0.0

    def content(self) -> MessageContent:
        return self._exchange.merge(self._local, self._in_memory.content(), self._pending.content())

    def discard(self) -> None:
        """Let local in-peers use their send buffers again, and give up what remote in-peers send."""
        self._in_memory.discard()
        self._pending.discard()
