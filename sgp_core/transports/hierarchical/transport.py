"""Workers of one host share memory, workers of different hosts send messages: both in one exchange."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.point_to_point import PointToPoint, WeightMessages
from sgp_core.tensors.flat_storage import Sizes
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import weighted_sum
from sgp_core.timeline import Marks
from sgp_core.transports.base import MessageContent
from sgp_core.transports.hierarchical.inter_host import InterHostMix, ReceiveArena
from sgp_core.transports.hierarchical.plan import InterHostPlan, plan_of, split_into_chunks
from sgp_core.transports.p2p.buffers import SendBuffer, chunks_of
from sgp_core.transports.p2p.pending_message import MessageChannel, PendingMessage
from sgp_core.transports.shared_memory.blocked_mixing import BlockedMixer
from sgp_core.transports.shared_memory.counters import SharedCounters
from sgp_core.transports.shared_memory.transport import SharedMemoryTransport, SharedMessage, send_buffer_count

T = TypeVar("T")


class HierarchicalTransport:
    """Exchanges in memory inside a host, by messages between hosts, for workers with their parameters in CPU memory.

    ``mix``: workers of one host that edges of the step join, m of them, each compute the new values of one m-th of
    the elements for all of them, where the vectors lie. What such a component needs of another host's workers is sent
    to it once, and not by them but by who computes the same elements there: so each worker sends, receives and mixes
    an m-th, no element is changed by anybody but who has sent it, and the numbers are those of ``p2p`` bit for bit.
    Vectors go chunk by chunk, the next on their way while one is mixed, in their order on all workers: the
    first chunk that is not done can always be, so that nobody waits in a circle.

    ``push`` copies the vector into an outbox once; out-peers of the host add it from there, to others it is sent.

    A steady step allocates nothing; there is no thread and no process group beside the one given. Beside the parameters
    it takes, for ``mix``, room for as much again; to push, the outboxes and inboxes of both kinds.

    Args:
        board: of the workers, with :func:`send_buffer_count` slots.
        overlap_steps: how many steps a pushed message may be under way when the next is pushed.
    """

    name = "hierarchical"

    def __init__(self, board: SharedCounters, overlap_steps: int = 0) -> None:
        self.rank = board.rank
        self._hosts = board.hosts
        self._near = frozenset(board.here)
        self._far = frozenset(rank for host in board.hosts for rank in host) - self._near
        self._outboxes = leaving = list[SendBuffer]()
        self._here = SharedMemoryTransport(board, overlap_steps, lambda outbox: leaving[outbox].settle())
        self._wire = PointToPoint(board.group)
        self._weights = WeightMessages(self._wire, torch.device("cpu"))
        self._pieces: list[Tensor] = []
        self._room = ReceiveArena()
        self._slots = send_buffer_count(overlap_steps)
        self._letters: MessageChannel | None = None

    def allocate(self, sizes: Sizes) -> list[Tensor]:
        """Make room for vectors of this layout; return the pieces in which the parameters are to live. Collective.

        Raises:
            NotShared: on all workers alike, if those that could map each other's memory cannot any more.
        """
        self._pieces = self._here.allocate(sizes)
        self._letters = MessageChannel(FlatVector(self._pieces), self._wire)
        self._outboxes += [SendBuffer(self._here.outbox_vector(slot)) for slot in range(self._slots)]
        return self._pieces

    @property
    def marks(self) -> Marks | None:
        """Where to note the moments of the exchange that begins; None: nowhere."""
        return self._here.marks

    @marks.setter
    def marks(self, marks: Marks | None) -> None:
        self._here.marks = marks

    # -- the two verbs -----------------------------------------------------------------------------------------------
    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``own x + sum_j share_j x_j`` in place; return the weight mixed alike (1 if None).

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        routes = plan_of(exchange.edges, self.rank, self._hosts)
        far = exchange.among(self._far)
        if weight is not None:
            self._weights.post(weight, far)
        crossing = self._crossing(routes)
        with self._here.gathered(x, exchange, routes.component, weight) as (vectors, weights):
            if crossing is None:
                self._here.mix_stretch(routes.component, vectors)
            else:
                crossing.mix(vectors, self._here.blocks, exchange, self.marks)
        if weight is None:
            return 1.0
        weights |= dict(zip(far.in_peers, self._weights.arrived(), strict=True))
        return exchange.own_weight * weight + weighted_sum(
            exchange.in_weights, [weights[peer] for peer in exchange.in_peers]
        )

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> None:
        """Do nothing: who sends what of another worker's vector waits until that worker has come."""

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> HierarchicalMessage:
        """Copy ``x``, or in turn its parts, to where out-peers of this host find it, and send it to the others.

        Raises:
            RuntimeError: a peer that should have taken an earlier message is gone.
        """
        assert self._letters is not None, "allocate() was not called"
        outbox = self._outboxes[self._here.outbox()]
        near, far = exchange.among(self._near), exchange.among(self._far)
        shared = self._here.push(x, near, weight)
        letter = self._letters.send(outbox, x, far, weight, self.marks, most=exchange.in_degree, copied=True)
        return HierarchicalMessage(
            self._here.blocks, exchange, near.in_peers, shared, letter, has_weight=weight is not None
        )

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""
        return self._here.scratch()

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""
        for outbox in self._outboxes:
            outbox.settle()

    def _crossing(self, routes: InterHostPlan) -> InterHostMix | None:
        """Begin to receive the chunks that this worker computes, if its component has to do with other hosts."""
        if not (routes.arriving or routes.leaving):
            return None
        members = routes.component.members
        everybody = split_into_chunks(
            tuple((p.numel(), p.element_size()) for p in self._pieces), routes.most, self._hosts
        )
        mine = everybody[members.index(self.rank) :: len(members)]
        return InterHostMix(routes, mine, [piece.dtype for piece in self._pieces], self._wire, self._room)


class HierarchicalMessage:
    """A pushed message: what in-peers of this host send lies in shared memory, the rest is under way.

    Args:
        blocks: add.
        exchange: the whole one.
        near: the in-peers of this host.
        shared: what they send.
        letter: what the others send.
    """

    def __init__(
        self,
        blocks: BlockedMixer,
        exchange: Exchange,
        near: tuple[int, ...],
        shared: SharedMessage,
        letter: PendingMessage,
        *,
        has_weight: bool,
    ) -> None:
        self._blocks = blocks
        self._exchange = exchange
        self._near = near
        self._shared = shared
        self._letter = letter
        self._has_weight = has_weight

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        vectors, weights = self._shared.arrived(marks)
        lying = [chunks_of(vector) for vector in vectors]
        for at, (chunk, slots) in enumerate(zip(chunks_of(x), self._letter.arriving(marks), strict=True)):
            self._blocks.add(chunk, self._in_order([theirs[at] for theirs in lying], slots), self._exchange.in_weights)
        weights = self._in_order(weights, self._letter.weights)
        self._letter.done()
        self._shared.discard()
        return weighted_sum(self._exchange.in_weights, weights) if self._has_weight else 0.0

    def content(self) -> MessageContent:
        return self._in_order(self._shared.content(), self._letter.content())

    def discard(self) -> None:
        """Let the in-peers of this host go on without it; what others send arrives where nobody looks."""
        self._shared.discard()
        self._letter.discard()

    def _in_order(self, near: Iterable[T], far: Iterable[T]) -> list[T]:
        """Put together what comes from this host and from others, in the order of all in-peers."""
        here, elsewhere = iter(near), iter(far)
        return [next(here if peer in self._near else elsewhere) for peer in self._exchange.in_peers]
