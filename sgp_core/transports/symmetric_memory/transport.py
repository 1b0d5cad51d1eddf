"""Vectors that GPUs write into each other's memory, in the order of two streams; the host never waits for a GPU."""

from __future__ import annotations

from collections import deque

from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import GRAIN, mix_all_, weighted_sum
from sgp_core.timeline import Marks, now
from sgp_core.transports.base import MessageContent, MixedCombination
from sgp_core.transports.symmetric_memory.peer_memory import PeerMemory, StreamEvent
from sgp_core.transports.symmetric_memory.weight_exchange import WeightExchange

_FREE, _FULL = 0, 1
"""Channels of a window: the receiver signals that its inbox is free, the sender that it has written there."""

_ALIGNMENT_BYTES = 128


class SymmetricMemoryTransport:
    """A sender copies its vector into the receiver's inbox and raises a flag there; the receiver mixes from its inbox.

    A sender writes to an inbox only after the receiver has signalled that it is free. The receiver does so in its side
    stream, as soon as it has mixed the content, so that no sender waits for the receiver's next step. The host enqueues
    all work in two CUDA streams and never waits for a GPU. PushSum weights are known on the host, so the processes
    exchange them there (:class:`WeightExchange`); regular graphs need none.

    There is no deadlock, even where streams share a hardware queue or workers share a GPU: whatever a worker waits for,
    its peer enqueues before it waits itself.

    ``mix`` copies from the vector itself. Its inbox is as large as the parameters: with k in-peers the exchange runs in
    k waves, over a k-th of the vector each. ``push`` copies from a send buffer, in the side stream, while the vector
    goes on changing; it has ``overlap_steps`` send buffers and one more inbox than that, each for all in-peers.

    Args:
        like: a vector of the model's layout.
        fabric: the memory and the streams of the workers.
        weights: exchanges PushSum weights.
        world_size: number of workers.
        overlap_steps: for how many steps a pushed message may be under way when the next is pushed.
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
        self._send_buffers = deque(_SendBuffer(like) for _ in range(overlap_steps))
        self._inboxes: deque[_ReceiveBuffer | None] = deque([None] * (overlap_steps + 1))
        self._spare = GRAIN * world_size  # waves are rounded up
        self._mix_inbox: _ReceiveBuffer | None = None
        if not overlap_steps:
            self._open_mix_inbox()  # allocated now rather than at the first step, where it may not fit

    # -- exchanges -----------------------------------------------------------------------------------------------
    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``P_ii x + sum_j P_ij x_j`` in place; return the weight mixed in the same way (1 if None).

        Raises:
            PeerLost: a peer is gone, if weights are exchanged; without weights the GPU fails after the time-out of the
                process group.
        """
        fabric, inbox = self._fabric, self._open_mix_inbox()
        number = None if weight is None else self._weights.send(exchange, weight)
        if inbox.used_as_scratch:
            inbox.free, inbox.used_as_scratch = fabric.record_event(), False
        with fabric.side_stream():
            fabric.wait_event(inbox.free)
            self._signal_free(inbox, exchange)
        for wave in range(exchange.in_degree):
            if wave:
                self._signal_free(inbox, exchange)
            pieces = [_part_of_wave(tensor, wave, exchange.in_degree) for tensor in x.tensors]
            for peer in exchange.out_peers:
                self._write(inbox, exchange, peer, FlatVector(pieces))
            self._wait_full(inbox, exchange)
            for number_of_piece, mine in enumerate(pieces):
                slots = [
                    inbox.slot(self.rank, number_of_piece, slot, mine.numel()) for slot in range(len(exchange.in_peers))
                ]
                mix_all_(mine, exchange.own_weight, slots, exchange.in_weights)
        inbox.free = fabric.record_event()
        if self.marks is not None:
            self.marks.posted = now()
        if weight is None or number is None:
            return 1.0
        return exchange.own_weight * weight + weighted_sum(exchange.in_weights, self._weights.receive(exchange, number))

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> None:
        """Do nothing: a GPU writes to another faster than it computes a part of a model."""

    def post_ahead(self, x: FlatVector, exchange: Exchange, weight: float | None) -> MixedCombination:
        """Send nothing ahead."""
        return MixedCombination(self, exchange)

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> SymmetricMessage:
        """Copy ``x``, or in turn its parts, to a send buffer and on to the out-peers; ``x`` may change at once.

        Raises:
            RuntimeError: more messages are in flight than the algorithm has declared.
        """
        fabric = self._fabric
        buffer = self._next_send_buffer()
        inbox = self._next_inbox(exchange.in_degree) if x.first else self._inboxes[0]
        assert inbox is not None
        mine = buffer.flat.at(x)
        mine.copy_(x)
        ready = fabric.record_event()
        number = None if weight is None else self._weights.send(exchange, weight)
        with fabric.side_stream():
            if x.first:
                fabric.wait_event(inbox.free)
                self._signal_free(inbox, exchange)
            fabric.wait_event(ready)
            for peer in exchange.out_peers:
                self._write(inbox, exchange, peer, mine)
            sent = fabric.record_event()
        if x.last:
            buffer.sent = sent
            self._send_buffers.rotate(-1)
            self._inboxes.rotate(-1)
        if self.marks is not None:
            self.marks.posted = now()
        return SymmetricMessage(self, inbox, exchange, number, mine)

    def scratch(self) -> FlatVector:
        """Return memory of the model's layout that is free until the next ``mix`` or ``push``."""
        if self._send_buffers:
            return self._next_send_buffer().flat
        inbox = self._open_mix_inbox()
        inbox.used_as_scratch = True  # senders may write there only after the caller's work
        return inbox.scratch

    def interrupt(self, why: str) -> None:
        """Let waits for the weights of peers fail; for another thread to call."""
        self._weights.interrupt(why)

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""
        self._fabric.settle()

    # -- a message ---------------------------------------------------------------------------------------------------
    def _signal_free(self, inbox: _ReceiveBuffer, exchange: Exchange) -> None:
        for peer in exchange.in_peers:
            inbox.window.signal(peer, _FREE)

    def _write(self, inbox: _ReceiveBuffer, exchange: Exchange, peer: int, mine: FlatVector) -> None:
        """Copy a message, or in turn the parts of one, to the inbox of ``peer``."""
        slot = exchange.edges.in_peers[peer].index(self.rank)
        if mine.first:
            inbox.window.wait(peer, _FREE)
        sizes = [piece.numel() for piece in (self._like if mine.is_part else mine).tensors]
        whole = FlatVector([inbox.slot(peer, number, slot, size) for number, size in enumerate(sizes)])
        for into, piece in zip(whole.at(mine).tensors, mine.tensors, strict=True):
            self._fabric.copy(into, piece)
        if mine.last:
            inbox.window.signal(peer, _FULL)

    def _wait_full(self, inbox: _ReceiveBuffer, exchange: Exchange) -> None:
        for peer in exchange.in_peers:
            inbox.window.wait(peer, _FULL)

    def receive(self, inbox: _ReceiveBuffer, exchange: Exchange) -> list[FlatVector]:
        """Let the stream wait for what the in-peers write to ``inbox``; return the vector of each."""
        if not inbox.arrived:
            self._wait_full(inbox, exchange)
            inbox.arrived = True
        sizes = [tensor.numel() for tensor in self._like.tensors]
        return [
            FlatVector([inbox.slot(self.rank, number, slot, size) for number, size in enumerate(sizes)])
            for slot in range(len(exchange.in_peers))
        ]

    def receive_weights(self, exchange: Exchange, number: int) -> list[float]:
        """Return the weights that the in-peers sent with a message. Call it once."""
        return self._weights.receive(exchange, number)

    def release(self, inbox: _ReceiveBuffer) -> None:
        """Let peers write to an inbox again, once this worker's work in the current stream is done."""
        inbox.free, inbox.arrived, inbox.pending = self._fabric.record_event(), False, False

    # -- memory ------------------------------------------------------------------------------------------------------
    def _next_send_buffer(self) -> _SendBuffer:
        if not self._send_buffers:  # the algorithm did not declare messages in flight
            self._send_buffers.append(_SendBuffer(self._like))
        buffer = self._send_buffers[0]
        self._fabric.wait_event(buffer.sent)
        return buffer

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

    def _open_mix_inbox(self) -> _ReceiveBuffer:
        if self._mix_inbox is None:
            self._mix_inbox = _ReceiveBuffer(self._fabric, self._like, 1, self._spare)
        return self._mix_inbox


class _SendBuffer:
    """A copy of a vector to be sent."""

    def __init__(self, like: FlatVector) -> None:
        self.flat = like.zeros_like()
        self.sent: StreamEvent = None
        """Reached when the last message has been written to all out-peers."""


class _ReceiveBuffer:
    """An inbox: a window for vectors from ``slots`` in-peers, or for waves of one vector's size."""

    def __init__(self, fabric: PeerMemory, like: FlatVector, slots: int, spare: int = 0) -> None:
        self.slots = slots
        self.free: StreamEvent = None
        """Reached when peers may write to it."""
        self.used_as_scratch = False
        self.pending = False
        """Whether it is for a message that has not been added yet."""
        self.arrived = False
        """Whether the stream has waited for that message."""
        self._dtypes = [tensor.dtype for tensor in like.tensors]
        self._sizes = [tensor.numel() * slots + spare for tensor in like.tensors]
        self._offsets, end = [], 0
        for size, dtype in zip(self._sizes, self._dtypes, strict=True):
            self._offsets.append(end)
            end += -(-size * dtype.itemsize // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        self.window = fabric.open(max(end, _ALIGNMENT_BYTES))
        self._tensors: dict[tuple[int, int], Tensor] = {}
        self._rank = fabric.rank
        self._lengths = [tensor.numel() for tensor in like.tensors]

    @property
    def scratch(self) -> FlatVector:
        """The memory of this worker as one vector."""
        return FlatVector([self.slot(self._rank, number, 0, length) for number, length in enumerate(self._lengths)])

    def slot(self, rank: int, piece: int, slot: int, size: int) -> Tensor:
        """Return where ``size`` elements of a piece arrive from in-peer number ``slot`` of ``rank``."""
        if (rank, piece) not in self._tensors:
            self._tensors[rank, piece] = self.window.tensor(
                rank, self._offsets[piece], self._sizes[piece], self._dtypes[piece]
            )
        return self._tensors[rank, piece][slot * size : (slot + 1) * size]


class SymmetricMessage:
    """The vectors, or a part of each, that the in-peers write to an inbox of this worker."""

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
        vectors, weights = self._receive()
        for mine, *theirs in zip(x.tensors, *(vector.tensors for vector in vectors), strict=True):
            mix_all_(mine, 1.0, theirs, self._exchange.in_weights)
        if self._part.last:
            self._transport.release(self._inbox)
        return weighted_sum(self._exchange.in_weights, weights)

    def content(self) -> MessageContent:
        vectors, weights = self._receive()
        return [
            ([tensor.clone() for tensor in vector.tensors], weight)
            for vector, weight in zip(vectors, weights, strict=True)
        ]

    def discard(self) -> None:
        """Let the message arrive, and release the inbox."""
        self._receive()
        if self._part.last:
            self._transport.release(self._inbox)

    def _receive(self) -> tuple[list[FlatVector], list[float]]:
        """Return the in-peers' vectors, or this part of them, and the weights, which travel with the first part."""
        if self._arrived is None:
            vectors = [vector.at(self._part) for vector in self._transport.receive(self._inbox, self._exchange)]
            weights = [0.0] * len(vectors)
            if self._number is not None:
                weights = self._transport.receive_weights(self._exchange, self._number)
            self._arrived = vectors, weights
        return self._arrived


def _part_of_wave(tensor: Tensor, wave: int, waves: int) -> Tensor:
    size = -(-tensor.numel() // (GRAIN * waves)) * GRAIN
    return tensor[min(wave * size, tensor.numel()) : min((wave + 1) * size, tensor.numel())]
