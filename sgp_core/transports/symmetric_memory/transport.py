"""Vectors that GPUs write into each other's memory, in the order of two streams; the host never waits for a GPU."""

from __future__ import annotations

from collections import deque

from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import GRAIN, mix_all_, weighted_sum
from sgp_core.timeline import Marks, now
from sgp_core.transports.symmetric_memory.inbox import PeerInbox
from sgp_core.transports.symmetric_memory.messages import ArrivingWeights, SymmetricCombination, SymmetricMessage
from sgp_core.transports.symmetric_memory.peer_memory import PeerMemory, StreamEvent
from sgp_core.transports.symmetric_memory.weight_exchange import WeightExchange


class SymmetricMemoryTransport:
    """A sender copies its vector into the receiver's inbox and raises a flag there; the receiver mixes from its inbox.

    A sender writes to an inbox only after the receiver has signalled that it is free. The receiver does so in its side
    stream, as soon as it has mixed the content, so that no sender waits for the receiver's next step. The host enqueues
    all work in two CUDA streams and never waits for a GPU. PushSum weights are known on the host, so the processes
    exchange them there (:class:`WeightExchange`); regular graphs need none.

    There is no deadlock, even where streams share a hardware queue or workers share a GPU: whatever a worker waits for,
    its peer enqueues before it waits itself.

    ``mix`` copies from the vector itself. Its inbox is as large as the parameters: with k in-peers the exchange runs in
    k waves, over a k-th of the vector each. ``post_ahead`` copies from the vector itself, too, in the side stream; all
    in-peers write at a time, so that the same inbox becomes as large as k vectors. ``push`` copies from a send buffer,
    in the side stream, while the vector goes on changing; it has ``overlap_steps`` send buffers and one more inbox than
    that, each for all in-peers.

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
        self._inboxes: deque[PeerInbox | None] = deque([None] * (overlap_steps + 1))
        self._spare = GRAIN * world_size  # waves are rounded up
        self._mix_inbox: PeerInbox | None = None
        if not overlap_steps:
            self._open_mix_inbox()  # allocated now rather than at the first step, where it may not fit

    # -- exchanges -----------------------------------------------------------------------------------------------
    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``P_ii x + sum_j P_ij x_j`` in place; return the weight mixed in the same way (1 if None).

        Raises:
            PeerLost: a peer is gone, if weights are exchanged; without weights the GPU fails after the time-out of the
                process group.
            RuntimeError: a vector that was posted ahead is under way.
        """
        fabric, inbox = self._fabric, self._open_mix_inbox()
        number = None if weight is None else self._weights.send(exchange, weight)
        with fabric.side_stream():
            inbox.invite(exchange)
        for wave in range(exchange.in_degree):
            if wave:
                inbox.signal_free(exchange)
            pieces = [_part_of_wave(tensor, wave, exchange.in_degree) for tensor in x.tensors]
            for peer in exchange.out_peers:
                inbox.write(exchange, peer, FlatVector(pieces))
            inbox.wait_full(exchange)
            for number_of_piece, mine in enumerate(pieces):
                slots = [
                    inbox.slot(self.rank, number_of_piece, slot, mine.numel()) for slot in range(len(exchange.in_peers))
                ]
                mix_all_(mine, exchange.own_weight, slots, exchange.in_weights)
        inbox.release()
        self._mark()
        if weight is None or number is None:
            return 1.0
        return exchange.own_weight * weight + weighted_sum(exchange.in_weights, self._weights.receive(exchange, number))

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> None:
        """Do nothing: a GPU writes to another faster than it computes a part of a model."""

    def post_ahead(self, x: FlatVector, exchange: Exchange, weight: float | None) -> SymmetricCombination:
        """Begin to copy ``x`` itself to the out-peers, in the side stream; the main stream goes on.

        Nothing may change ``x`` before the vectors are combined: the main stream waits for the copies then.

        Raises:
            RuntimeError: another vector that was posted ahead is under way.
        """
        fabric, inbox = self._fabric, self._open_mix_inbox(exchange.in_degree)
        number = None if weight is None else self._weights.send(exchange, weight)
        inbox.pending = True  # only now: it may be tried again where a peer was missed
        ready = fabric.record_event()
        with fabric.side_stream():
            inbox.invite(exchange)
            fabric.wait_event(ready)
            for peer in exchange.out_peers:
                inbox.write(exchange, peer, x)
            sent = fabric.record_event()
        self._mark()
        return SymmetricCombination(fabric, inbox, exchange, ArrivingWeights(self._weights, exchange, number), sent)

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
                inbox.invite(exchange)
            fabric.wait_event(ready)
            for peer in exchange.out_peers:
                inbox.write(exchange, peer, mine)
            sent = fabric.record_event()
        if x.last:
            buffer.sent = sent
            self._send_buffers.rotate(-1)
            self._inboxes.rotate(-1)
        self._mark()
        return SymmetricMessage(inbox, exchange, ArrivingWeights(self._weights, exchange, number), mine)

    def scratch(self) -> FlatVector:
        """Return memory of the model's layout that is free until the next ``mix``, ``post_ahead`` or ``push``.

        While a vector that was posted ahead is under way, it is memory that goes when the caller drops it.
        """
        if self._send_buffers:
            return self._next_send_buffer().flat
        if self._mix_inbox is not None and self._mix_inbox.pending:
            return self._like.zeros_like()
        inbox = self._open_mix_inbox()
        inbox.used_as_scratch = True  # senders may write there only after the caller's work
        return inbox.first

    def interrupt(self, why: str) -> None:
        """Let waits for the weights of peers fail; for another thread to call."""
        self._weights.interrupt(why)

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""
        self._fabric.settle()

    def _mark(self) -> None:
        if self.marks is not None:
            self.marks.posted = now()

    # -- memory ------------------------------------------------------------------------------------------------------
    def _next_send_buffer(self) -> _SendBuffer:
        if not self._send_buffers:  # the algorithm did not declare messages in flight
            self._send_buffers.append(_SendBuffer(self._like))
        buffer = self._send_buffers[0]
        self._fabric.wait_event(buffer.sent)
        return buffer

    def _next_inbox(self, in_degree: int) -> PeerInbox:
        inbox = self._inboxes[0]
        if inbox is not None and inbox.pending:
            raise RuntimeError(
                f"more messages are in flight than an algorithm with steps_in_flight={self._overlap_steps} has"
            )
        if inbox is None or inbox.slots < in_degree:
            inbox = self._inboxes[0] = PeerInbox(self._fabric, self._like, in_degree)
        inbox.pending = True
        return inbox

    def _open_mix_inbox(self, in_degree: int = 1) -> PeerInbox:
        """Return the inbox that does not belong to pushed messages, with a slot for each in-peer. Collective to grow.

        Whoever has used it as scratch memory has done so in the main stream, before what comes now.
        """
        inbox = self._mix_inbox
        if inbox is not None and inbox.pending:
            raise RuntimeError("a vector that was posted ahead is to be combined before the next exchange")
        if inbox is None or inbox.slots < in_degree:
            inbox = self._mix_inbox = PeerInbox(self._fabric, self._like, max(1, in_degree), self._spare)
        if inbox.used_as_scratch:
            inbox.release()
        return inbox


class _SendBuffer:
    """A copy of a vector to be sent."""

    def __init__(self, like: FlatVector) -> None:
        self.flat = like.zeros_like()
        self.sent: StreamEvent = None
        """Reached when the last message has been written to all out-peers."""


def _part_of_wave(tensor: Tensor, wave: int, waves: int) -> Tensor:
    size = -(-tensor.numel() // (GRAIN * waves)) * GRAIN
    return tensor[min(wave * size, tensor.numel()) : min((wave + 1) * size, tensor.numel())]
