"""Vectors, or parts of them, that are sent and received while the worker computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from torch import Tensor
from torch.distributed import P2POp

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.point_to_point import PointToPoint, wait
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import difference_, difference_scale, mix_all_, weighted_sum
from sgp_core.timeline import Marks, now
from sgp_core.transports.base import MessageContent
from sgp_core.transports.p2p.buffers import ReceiveBuffer, ReceiveSlots, SendBuffer, chunks_of


class MessageChannel:
    """Sends vectors, and owns the memory in which those of the in-peers arrive.

    Args:
        like: a vector of the model's layout.
        messages: sends and receives.

    Attributes:
        open_inbox: the receive buffer of the next step, once there is one; see :meth:`inbox`.
    """

    def __init__(self, like: FlatVector, messages: PointToPoint) -> None:
        self._like = like
        self._messages = messages
        self._one_batch = like.tensors[0].is_cuda  # NCCL fuses a batch into one operation, and orders it by streams
        self._free: list[ReceiveBuffer] = []
        self.open_inbox: ReceiveBuffer | None = None

    def inbox(self) -> ReceiveBuffer:
        """Return the receive buffer of the next step: the same one until all parts of its vector are under way."""
        if self.open_inbox is None:
            self.open_inbox = self._free.pop() if self._free else ReceiveBuffer(self._like, self._messages.world_size)
        return self.open_inbox

    @property
    def exhausted(self) -> bool:
        """Whether every receive buffer that there is is under way."""
        return self.open_inbox is None and not self._free

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None, marks: Marks | None) -> PendingMessage:
        """Begin to send ``x``, which must not change until the message is mixed into it, and to receive."""
        inbox, slots = self._borrow(x, max(1, len(exchange.in_peers)))
        outgoing = slots.mine
        if weight is not None:
            slots.weight_out.fill_(weight)
            outgoing = [slots.weight_out, *outgoing]
        receives = self._receives(slots, exchange, has_weight=weight is not None)
        sends = [self._messages.send(piece, peer) for piece in outgoing for peer in exchange.out_peers]
        arrivals, departures = self._messages.post(receives, sends, exchange)
        _mark(marks)
        return PendingMessage(
            self, exchange, inbox, slots, arrivals, departures, marks, last=x.last, has_weight=weight is not None
        )

    def send(
        self,
        buffer: SendBuffer,
        x: FlatVector,
        exchange: Exchange,
        weight: float | None,
        marks: Marks | None,
        *,
        max_in_degree: int,
        copied: bool = False,
    ) -> PendingMessage:
        """Begin to send ``x`` to the out-peers from a send buffer, and to receive from the in-peers.

        On CPU, ``x`` is copied chunk by chunk as the last message leaves the buffer, so that the link is never idle.

        Args:
            max_in_degree: the number of in-peers to reserve memory for.
            copied: whether ``x`` lies in the send buffer already.
        """
        inbox, slots = self._borrow(x, max_in_degree)
        receives = self._receives(slots, exchange, has_weight=weight is not None)
        arrivals, _ = ([], []) if self._one_batch else self._messages.post(receives, [], exchange)
        chunks, sends = buffer.chunks(x), []
        for chunk, mine in zip(chunks, [None, *slots.mine], strict=True):
            chunk.settle()
            if mine is not None:
                if not copied:
                    chunk.tensor.copy_(mine)
            elif weight is not None:
                chunk.tensor.fill_(weight)
            else:
                continue
            sends_of_chunk = [self._messages.send(chunk.tensor, peer) for peer in exchange.out_peers]
            if self._one_batch:
                sends += sends_of_chunk
            else:
                chunk.sent_by(self._messages.post([], sends_of_chunk, exchange)[1], exchange)
        if self._one_batch:
            arrivals, departures = self._messages.post(receives, sends, exchange)
            for chunk in chunks:
                chunk.sent_by(departures, exchange)
        _mark(marks)
        return PendingMessage(
            self, exchange, inbox, slots, arrivals, (), marks, last=x.last, has_weight=weight is not None
        )

    def release(self, inbox: ReceiveBuffer) -> None:
        """Let the receive buffer of a step be used again."""
        self._free.append(inbox)

    def _borrow(self, x: FlatVector, max_in_degree: int) -> tuple[ReceiveBuffer, ReceiveSlots]:
        """Return where the in-peers' ``x``, a vector or the next part of one, arrives.

        After the last part, the next step gets another receive buffer.
        """
        inbox = self.inbox()
        if x.last:
            self.open_inbox = None
        return inbox, inbox.slots(x, max_in_degree)

    def _receives(self, slots: ReceiveSlots, exchange: Exchange, *, has_weight: bool) -> list[P2POp]:
        """Return receives of the weight and of every chunk in turn, each from every in-peer."""
        pieces: Sequence[Sequence[Tensor]] = [slots.weight_slots, *slots.slots] if has_weight else slots.slots
        receive, peers = self._messages.receive, exchange.in_peers
        return [receive(slot, peer) for piece in pieces for slot, peer in zip(piece, peers, strict=False)]


class PendingMessage:
    """A vector, or a part of one, that :class:`MessageChannel` has begun to receive from every in-peer of one step."""

    def __init__(
        self,
        channel: MessageChannel,
        exchange: Exchange,
        inbox: ReceiveBuffer,
        slots: ReceiveSlots,
        arrivals: Sequence[Any],
        departures: Sequence[Any],
        marks: Marks | None,
        *,
        last: bool,
        has_weight: bool,
    ) -> None:
        self._channel = channel
        self._exchange = exchange
        self._inbox = inbox
        self._slots = slots
        self._has_weight = has_weight
        self._last = last
        expected = len(exchange.in_peers) * (len(slots.slots) + has_weight)
        self._all = arrivals if len(arrivals) != expected else ()  # NCCL has one work for all messages
        self._arrivals = () if self._all else arrivals
        self._departures = () if self._all else departures
        self._posted = 0 if marks is None else marks.posted
        self._apart = 0.0

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Wait, and add ``sum_j P_ij x_j`` to ``x``; return ``sum_j P_ij w_j``, 0 without weights. Call it once."""
        return self._mix_into(x, 1.0, marks)

    def mix_into(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Wait, and replace ``x``, which was posted, by ``P_ii x + sum_j P_ij x_j``; return ``sum_j P_ij w_j`` or 0."""
        return self._mix_into(x, self._exchange.own_weight, marks)

    def _mix_into(self, x: FlatVector, own_weight: float, marks: Marks | None) -> float:
        for chunk, slots in zip(chunks_of(x), self.chunks(marks), strict=True):
            mix_all_(chunk, own_weight, slots, self._exchange.in_weights)
        weight = weighted_sum(self._exchange.in_weights, self.weights)
        self.release()
        return weight

    def combine(self, x: FlatVector, weight: float | None, *, apart: bool, marks: Marks | None = None) -> float:
        """Wait, and replace ``x``, which was posted, by ``P_ii w_i x + sum_j P_ij w_j x_j``; see ``Combination``.

        What is kept apart lies where the vector of the first in-peer has arrived.
        """
        own, shares = self._exchange.shares(None, ())
        for number, (chunk, slots) in enumerate(zip(chunks_of(x), self.chunks(marks), strict=True)):
            if number == 0:  # PushSum weights have arrived with it
                own, shares = self._exchange.shares(weight, self.weights)
            if apart:
                difference_(slots[0], chunk, own, slots[: len(shares)], shares)
            else:
                mix_all_(chunk, own, slots, shares)
        self._apart = difference_scale(own, shares) if apart else 0.0
        return weighted_sum(self._exchange.in_weights, self.weights)

    def complete(self, x: FlatVector) -> None:
        """Add what was kept apart to ``x``, and release the receive buffer."""
        if self._apart:
            for chunk, slots in zip(chunks_of(x), self._slots.slots, strict=True):
                chunk.add_(slots[0], alpha=self._apart)
        self.release()

    def settle(self) -> None:
        """Wait until the vectors of the in-peers have arrived, and this worker's own has left."""
        self._wait()
        wait(self._departures, self._exchange, self._exchange.out_peers)
        self._all = self._arrivals = self._departures = ()

    def chunks(self, marks: Marks | None = None) -> Iterator[Sequence[Tensor]]:
        """Yield the slots of each chunk once it has arrived from all in-peers; there may be more slots than in-peers.

        By then, the same chunk of this worker's own vector has left, if it was posted.

        Raises:
            PeerLost: a peer is gone.
        """
        exchange = self._exchange
        ins, outs = exchange.in_peers, exchange.out_peers
        wait(self._all, exchange)
        arrivals, departures = iter(self._arrivals), iter(self._departures)
        if marks is not None:
            marks.posted = self._posted
            marks.hidden.update(ins)  # `wait` takes out those that it has to wait for
        if self._has_weight:
            wait(islice(arrivals, len(ins)), exchange, ins)
            wait(islice(departures, len(outs)), exchange, outs)
        for slots in self._slots.slots:
            wait(islice(arrivals, len(ins)), exchange, ins, marks)
            wait(islice(departures, len(outs)), exchange, outs)
            yield slots

    @property
    def weights(self) -> list[float]:
        """The PushSum weights of the in-peers, to be read after the first chunk; zeros if none travelled."""
        count = len(self._exchange.in_peers)
        return self._slots.weights[:count].flatten().tolist() if self._has_weight else [0.0] * count

    @property
    def memory(self) -> list[Tensor]:
        """Where each chunk of the first in-peer arrives, even if there is none: free once the chunk has been used."""
        return [slots[0] for slots in self._slots.slots]

    def release(self) -> None:
        """Release the receive buffer after the last part: parts are added in the order in which they were begun."""
        if self._last:
            self._channel.release(self._inbox)

    def discard(self) -> None:
        """Give the message up, and its receive buffer: messages may still arrive there, so it is not used again."""
        if self._slots.weights.is_cuda:  # torch may reuse the memory at once, so its stream has to wait
            self._wait()

    def content(self) -> MessageContent:
        """Wait, and return copies of what the in-peers have sent, in the order of ``in_peers``."""
        self._wait()
        self._all = self._arrivals = ()
        flats = self._slots.flats[: len(self._exchange.in_peers)]
        return [
            ([tensor.clone() for tensor in flat.tensors], weight)
            for flat, weight in zip(flats, self.weights, strict=True)
        ]

    def _wait(self) -> None:
        wait(self._all, self._exchange)
        wait(self._arrivals, self._exchange, self._exchange.in_peers)


def _mark(marks: Marks | None) -> None:
    if marks is not None and not marks.posted:
        marks.posted = now()
