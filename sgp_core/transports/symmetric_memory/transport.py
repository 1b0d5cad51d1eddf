"""Vectors that GPUs write into each other's memory: one-sided, in the order of streams, without waiting on the host."""

from __future__ import annotations

from collections import deque

from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import GRAIN, mix_all_, weighted_sum
from sgp_core.timeline import Marks, now
from sgp_core.transports.base import MessageContent
from sgp_core.transports.symmetric_memory.peer_memory import PeerMemory, StreamEvent
from sgp_core.transports.symmetric_memory.weight_exchange import WeightExchange

_FREE, _FULL = 0, 1
"""Channels of a window: the reader says that the sender may write, the sender that it has written."""

_ALIGNMENT_BYTES = 128


class SymmetricMemoryTransport:
    """A sender copies its vector into the receiver's inbox and raises a flag there; the receiver mixes from its inbox.

    An inbox is written only when its owner has said to the sender, who is a function of the step, that it is free. It
    says so aside, as soon as it has mixed what was there, so that no sender waits for the receiver's next step to be
    computed. All work is begun by the host and done in the order of two lanes (CUDA streams): the host never waits
    for a GPU. PushSum weights are known to the hosts, so they pass them to each other themselves, see
    :class:`WeightExchange`; where graphs are regular there are none.

    Every wait is for something that its giver begins before it waits itself, so there is no circle, also where lanes
    share a queue of the hardware or workers a GPU.

    ``mix`` copies from the vector itself. The inbox is as large as the parameters: with k in-peers the exchange runs
    in k waves over a k-th of the vector each. ``push`` copies from an outbox, aside, while the vector goes on
    changing; it has ``overlap_steps`` outboxes, and one inbox more, each for all in-peers.

    Args:
        like: a vector of the model's layout.
        fabric: between the workers.
        weights: how they tell each other PushSum weights.
        world_size: number of workers.
        overlap_steps: how many steps a pushed message may be under way when the next is pushed.
    """

    name = "symmetric_memory"

    def __init__(
        self, like: FlatVector, fabric: PeerMemory, weights: WeightExchange, world_size: int, overlap_steps: int = 0
    ) -> None:
        self.marks: Marks | None = None
        self.rank = fabric.rank
        self._like = like
        self._fabric = fabric
        self._weights = weights
        self._overlap_steps = overlap_steps
        self._outboxes = deque(_SendBuffer(like) for _ in range(overlap_steps))
        self._inboxes: deque[_ReceiveBuffer | None] = deque([None] * (overlap_steps + 1))
        self._spare = GRAIN * world_size  # waves are rounded up
        self._room: _ReceiveBuffer | None = None
        if not overlap_steps:
            self._mixing_room()  # now rather than at the first step, where it may not fit

    # -- the two verbs -----------------------------------------------------------------------------------------------
    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``own x + sum_j share_j x_j`` in place; return the weight mixed alike (1 if None).

        Raises:
            RuntimeError: a peer is gone and there are weights to be exchanged; else the GPU waits until the time-out
                of the process group.
        """
        fabric, room = self._fabric, self._mixing_room()
        number = None if weight is None else self._weights.tell(exchange, weight)
        if room.lent:
            room.free, room.lent = fabric.moment(), False
        with fabric.aside():
            fabric.after(room.free)
            self._grant(room, exchange)
        for wave in range(exchange.in_degree):
            if wave:
                self._grant(room, exchange)
            pieces = [_stretch(tensor, wave, exchange.in_degree) for tensor in x.tensors]
            for peer in exchange.out_peers:
                self._give(room, exchange, peer, FlatVector(pieces))
            self._await(room, exchange)
            for number_of_piece, mine in enumerate(pieces):
                slots = [
                    room.slot(self.rank, number_of_piece, slot, mine.numel()) for slot in range(len(exchange.in_peers))
                ]
                mix_all_(mine, exchange.own_weight, slots, exchange.in_weights)
        room.free = fabric.moment()
        if self.marks is not None:
            self.marks.posted = now()
        if weight is None or number is None:
            return 1.0
        return exchange.own_weight * weight + weighted_sum(exchange.in_weights, self._weights.hear(exchange, number))

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> None:
        """Do nothing: GPUs reach each other faster than a part of a model is computed."""

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> SymmetricMessage:
        """Copy ``x``, or in turn its parts, to an outbox and, aside, on to the out-peers; it may be changed at once.

        Raises:
            RuntimeError: more messages are in flight than there was room made for.
        """
        fabric = self._fabric
        outbox = self._next_outbox()
        inbox = self._next_inbox(exchange.in_degree) if x.first else self._inboxes[0]
        assert inbox is not None
        mine = outbox.flat.at(x)
        mine.copy_(x)
        ready = fabric.moment()
        number = None if weight is None else self._weights.tell(exchange, weight)
        with fabric.aside():
            if x.first:
                fabric.after(inbox.free)
                self._grant(inbox, exchange)
            fabric.after(ready)
            for peer in exchange.out_peers:
                self._give(inbox, exchange, peer, mine)
            left = fabric.moment()
        if x.last:
            outbox.left = left
            self._outboxes.rotate(-1)
            self._inboxes.rotate(-1)
        if self.marks is not None:
            self.marks.posted = now()
        return SymmetricMessage(self, inbox, exchange, number, mine)

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""
        if self._outboxes:
            return self._next_outbox().flat
        room = self._mixing_room()
        room.lent = True  # senders may write there only after what the caller does with it
        return room.scratch

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""
        self._fabric.settle()

    # -- a message ---------------------------------------------------------------------------------------------------
    def _grant(self, inbox: _ReceiveBuffer, exchange: Exchange) -> None:
        for peer in exchange.in_peers:
            inbox.window.signal(peer, _FREE)

    def _give(self, inbox: _ReceiveBuffer, exchange: Exchange, peer: int, mine: FlatVector) -> None:
        """Copy to where ``peer`` finds it: all of a message, or the parts of one in turn."""
        slot = exchange.edges.in_peers[peer].index(self.rank)
        if mine.first:
            inbox.window.wait(peer, _FREE)
        sizes = [piece.numel() for piece in (self._like if mine.is_part else mine).tensors]
        room = FlatVector([inbox.slot(peer, number, slot, size) for number, size in enumerate(sizes)])
        for into, piece in zip(room.at(mine).tensors, mine.tensors, strict=True):
            self._fabric.copy(into, piece)
        if mine.last:
            inbox.window.signal(peer, _FULL)

    def _await(self, inbox: _ReceiveBuffer, exchange: Exchange) -> None:
        for peer in exchange.in_peers:
            inbox.window.wait(peer, _FULL)

    def received(self, inbox: _ReceiveBuffer, exchange: Exchange) -> list[FlatVector]:
        """Let the lane wait for what the in-peers send to ``inbox``; return the vector of each."""
        if not inbox.arrived:
            self._await(inbox, exchange)
            inbox.arrived = True
        sizes = [tensor.numel() for tensor in self._like.tensors]
        return [
            FlatVector([inbox.slot(self.rank, number, slot, size) for number, size in enumerate(sizes)])
            for slot in range(len(exchange.in_peers))
        ]

    def heard(self, exchange: Exchange, number: int) -> list[float]:
        """Return the weights of a message of the in-peers. Once only."""
        return self._weights.hear(exchange, number)

    def finished_with(self, inbox: _ReceiveBuffer) -> None:
        """Let an inbox be written again once what this worker has begun to do with its content is done."""
        inbox.free, inbox.arrived, inbox.pending = self._fabric.moment(), False, False

    # -- memory ------------------------------------------------------------------------------------------------------
    def _next_outbox(self) -> _SendBuffer:
        if not self._outboxes:  # an algorithm that pushes without having said so
            self._outboxes.append(_SendBuffer(self._like))
        outbox = self._outboxes[0]
        self._fabric.after(outbox.left)
        return outbox

    def _next_inbox(self, in_degree: int) -> _ReceiveBuffer:
        inbox = self._inboxes[0]
        if inbox is not None and inbox.pending:
            raise RuntimeError(
                f"more messages are in flight than an algorithm with steps_in_flight={self._overlap_steps} has"
            )
        if inbox is None or inbox.slots < in_degree:
            inbox = self._inboxes[0] = _ReceiveBuffer(self._fabric, self._like, in_degree)
        inbox.pending = True
        return inbox

    def _mixing_room(self) -> _ReceiveBuffer:
        if self._room is None:
            self._room = _ReceiveBuffer(self._fabric, self._like, 1, self._spare)
        return self._room


class _SendBuffer:
    """A copy of a vector that is on its way."""

    def __init__(self, like: FlatVector) -> None:
        self.flat = like.zeros_like()
        self.left: StreamEvent = None


class _ReceiveBuffer:
    """A window laid out for vectors from ``slots`` in-peers, or for waves of one vector's size."""

    def __init__(self, fabric: PeerMemory, like: FlatVector, slots: int, spare: int = 0) -> None:
        self.slots = slots
        self.free: StreamEvent = None
        self.lent = False
        self.pending = False
        """Whether a message is to arrive in it, or has, and has not been added."""
        self.arrived = False
        """Whether the lane has waited for that message."""
        self._kinds = [tensor.dtype for tensor in like.tensors]
        self._sizes = [tensor.numel() * slots + spare for tensor in like.tensors]
        self._offsets, end = [], 0
        for size, dtype in zip(self._sizes, self._kinds, strict=True):
            self._offsets.append(end)
            end += -(-size * dtype.itemsize // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        self.window = fabric.open(max(end, _ALIGNMENT_BYTES))
        self._rooms: dict[tuple[int, int], Tensor] = {}
        self._rank = fabric.rank
        self._lengths = [tensor.numel() for tensor in like.tensors]

    @property
    def scratch(self) -> FlatVector:
        """This worker's part of it as one vector."""
        return FlatVector([self.slot(self._rank, number, 0, length) for number, length in enumerate(self._lengths)])

    def slot(self, rank: int, piece: int, slot: int, size: int) -> Tensor:
        """Return where ``size`` elements of a piece from the in-peer number ``slot`` of ``rank`` arrive."""
        if (rank, piece) not in self._rooms:
            self._rooms[rank, piece] = self.window.tensor(
                rank, self._offsets[piece], self._sizes[piece], self._kinds[piece]
            )
        return self._rooms[rank, piece][slot * size : (slot + 1) * size]


class SymmetricMessage:
    """What :meth:`SymmetricMemoryTransport.push` has begun."""

    def __init__(
        self,
        transport: SymmetricMemoryTransport,
        inbox: _ReceiveBuffer,
        exchange: Exchange,
        number: int | None,
        x: FlatVector,
    ) -> None:
        self._transport = transport
        self._inbox = inbox
        self._exchange = exchange
        self._number = number
        self._part = x
        self._arrived: tuple[list[FlatVector], list[float]] | None = None

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        vectors, weights = self._received()
        for mine, *theirs in zip(x.tensors, *(vector.tensors for vector in vectors), strict=True):
            mix_all_(mine, 1.0, theirs, self._exchange.in_weights)
        if self._part.last:
            self._transport.finished_with(self._inbox)
        return weighted_sum(self._exchange.in_weights, weights)

    def content(self) -> MessageContent:
        vectors, weights = self._received()
        return [
            ([tensor.clone() for tensor in vector.tensors], weight)
            for vector, weight in zip(vectors, weights, strict=True)
        ]

    def discard(self) -> None:
        """Let it arrive, and make room."""
        self._received()
        if self._part.last:
            self._transport.finished_with(self._inbox)

    def _received(self) -> tuple[list[FlatVector], list[float]]:
        """Return the in-peers' vectors, or this part of them, and their weights: those go with the first part."""
        if self._arrived is None:
            vectors = [vector.at(self._part) for vector in self._transport.received(self._inbox, self._exchange)]
            none = [0.0] * len(vectors)
            heard = none if self._number is None else self._transport.heard(self._exchange, self._number)
            self._arrived = vectors, heard
        return self._arrived


def _stretch(tensor: Tensor, wave: int, waves: int) -> Tensor:
    share = -(-tensor.numel() // (GRAIN * waves)) * GRAIN
    return tensor[min(wave * share, tensor.numel()) : min((wave + 1) * share, tensor.numel())]
