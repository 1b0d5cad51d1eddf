"""Vectors, or parts of them one by one, that leave and arrive while others are computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from torch import Tensor
from torch.distributed import P2POp

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.point_to_point import PointToPoint, wait
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import mix_all_, weighted_sum
from sgp_core.timeline import Marks, now
from sgp_core.transports.base import MessageContent
from sgp_core.transports.p2p.buffers import ReceiveBuffer, ReceiveSlots, SendBuffer, chunks_of


class MessageChannel:
    """Sends vectors and keeps the memory in which those of others arrive.

    Args:
        like: a vector of the model's layout.
        wire: carries them.
    """

    def __init__(self, like: FlatVector, wire: PointToPoint) -> None:
        self._like = like
        self._wire = wire
        self._at_once = like.tensors[0].is_cuda  # NCCL wants a batch as one operation, and its streams need no waits
        self._free: list[ReceiveBuffer] = []
        self._opened: ReceiveBuffer | None = None

    def inbox(self) -> ReceiveBuffer:
        """Return the inbox of the step that is about to be, the same one until all of its vector is under way."""
        if self._opened is None:
            self._opened = self._free.pop() if self._free else ReceiveBuffer(self._like, self._wire.world_size)
        return self._opened

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None, marks: Marks | None) -> PendingMessage:
        """Begin to send ``x``, which stays as it is until the letter is mixed into it, and to receive."""
        inbox, room = self._borrow(x, exchange.in_degree)
        outgoing = room.mine
        if weight is not None:
            room.weight_out.fill_(weight)
            outgoing = [room.weight_out, *outgoing]
        receives = self._receives(room, exchange, has_weight=weight is not None)
        sends = [self._wire.send(piece, peer) for piece in outgoing for peer in exchange.out_peers]
        arrivals, departures = self._wire.post(receives, sends)
        _mark(marks)
        return PendingMessage(
            self, exchange, inbox, room, arrivals, departures, marks, last=x.last, has_weight=weight is not None
        )

    def send(
        self,
        outbox: SendBuffer,
        x: FlatVector,
        exchange: Exchange,
        weight: float | None,
        marks: Marks | None,
        *,
        most: int,
        copied: bool = False,
    ) -> PendingMessage:
        """Begin to send ``x`` to the out-peers from ``outbox`` and to receive from the in-peers.

        On CPU the copy is made chunk by chunk as what lies there leaves, so that the link never runs dry.

        Args:
            most: in-peers to have room for.
            copied: whether ``x`` lies in the outbox already.
        """
        inbox, room = self._borrow(x, most)
        receives = self._receives(room, exchange, has_weight=weight is not None)
        arrivals, _ = ([], []) if self._at_once else self._wire.post(receives, [])
        parcels, sends = outbox.parcels(x), []
        for parcel, mine in zip(parcels, [None, *room.mine], strict=True):
            parcel.settle()
            if mine is not None:
                if not copied:
                    parcel.tensor.copy_(mine)
            elif weight is not None:
                parcel.tensor.fill_(weight)
            else:
                continue
            sending = [self._wire.send(parcel.tensor, peer) for peer in exchange.out_peers]
            if self._at_once:
                sends += sending
            else:
                parcel.leaves(self._wire.post([], sending)[1], exchange)
        if self._at_once:
            arrivals, departures = self._wire.post(receives, sends)
            for parcel in parcels:
                parcel.leaves(departures, exchange)
        _mark(marks)
        return PendingMessage(
            self, exchange, inbox, room, arrivals, (), marks, last=x.last, has_weight=weight is not None
        )

    def give_back(self, inbox: ReceiveBuffer) -> None:
        """Let the memory that a step's vectors arrived in be used again."""
        self._free.append(inbox)

    def _borrow(self, x: FlatVector, most: int) -> tuple[ReceiveBuffer, ReceiveSlots]:
        """Return where the in-peers' ``x`` arrives: all of a step's vector, or its next part.

        After the last part the next step has another inbox.
        """
        inbox = self.inbox()
        if x.last:
            self._opened = None
        return inbox, inbox.room(x, most)

    def _receives(self, room: ReceiveSlots, exchange: Exchange, *, has_weight: bool) -> list[P2POp]:
        """Return receives of the weight and of every chunk in turn, each from every in-peer."""
        pieces: Sequence[Sequence[Tensor]] = [room.weight_slots, *room.slots] if has_weight else room.slots
        peers = exchange.in_peers
        return [self._wire.receive(slot, peer) for slots in pieces for slot, peer in zip(slots, peers, strict=False)]


class PendingMessage:
    """What :class:`MessageChannel` has begun: a vector under way from every in-peer of one step, or a part of it."""

    def __init__(
        self,
        letters: MessageChannel,
        exchange: Exchange,
        inbox: ReceiveBuffer,
        room: ReceiveSlots,
        arrivals: Sequence[Any],
        departures: Sequence[Any],
        marks: Marks | None,
        *,
        last: bool,
        has_weight: bool,
    ) -> None:
        self._letters = letters
        self._exchange = exchange
        self._inbox = inbox
        self._room = room
        self._has_weight = has_weight
        self._last = last
        expected = len(exchange.in_peers) * (len(room.slots) + has_weight)
        self._all = arrivals if len(arrivals) != expected else ()  # one work for all messages: NCCL
        self._arrivals = () if self._all else arrivals
        self._departures = () if self._all else departures
        self._posted = 0 if marks is None else marks.posted

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Add ``sum_j P_ij x_j`` to ``x``, which is like what was sent; return ``sum_j P_ij w_j`` or 0. Once only."""
        return self._mix_into(x, 1.0, marks)

    def mix_into(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Replace ``x``, which was posted, by ``own x + sum_j P_ij x_j``; return ``sum_j P_ij w_j`` or 0. Once only."""
        return self._mix_into(x, self._exchange.own_weight, marks)

    def _mix_into(self, x: FlatVector, own: float, marks: Marks | None) -> float:
        for chunk, slots in zip(chunks_of(x), self.arriving(marks), strict=True):
            mix_all_(chunk, own, slots, self._exchange.in_weights)
        weight = weighted_sum(self._exchange.in_weights, self.weights)
        self.done()
        return weight

    def arriving(self, marks: Marks | None = None) -> Iterator[Sequence[Tensor]]:
        """Wait for one chunk after another; yield it, one of each in-peer and perhaps some beyond.

        What was posted of the same chunk has left by then.

        Raises:
            RuntimeError: a peer is gone; the message names it.
        """
        exchange = self._exchange
        ins, outs = exchange.in_peers, exchange.out_peers
        wait(self._all, exchange)
        arrivals, departures = iter(self._arrivals), iter(self._departures)
        if marks is not None:
            marks.posted = self._posted
            marks.hidden.update(ins)  # until one has to be waited for
        if self._has_weight:
            wait(islice(arrivals, len(ins)), exchange, ins)
            wait(islice(departures, len(outs)), exchange, outs)
        for slots in self._room.slots:
            wait(islice(arrivals, len(ins)), exchange, ins, marks)
            wait(islice(departures, len(outs)), exchange, outs)
            yield slots

    @property
    def weights(self) -> list[float]:
        """Of the in-peers, once something has arrived; zeros if none travelled."""
        count = len(self._exchange.in_peers)
        return self._room.weights[:count].flatten().tolist() if self._has_weight else [0.0] * count

    def done(self) -> None:
        """Give the memory back after the last part: parts are taken in the order in which they were begun."""
        if self._last:
            self._letters.give_back(self._inbox)

    def discard(self) -> None:
        """Leave it: what is still under way arrives in memory that nobody uses."""
        if self._room.weights.is_cuda:  # which may be given away at once, so let the stream wait; the host does not
            self._wait()

    def content(self) -> MessageContent:
        """Wait and return copies of what the in-peers have sent, in the order of ``in_peers``."""
        self._wait()
        self._all = self._arrivals = ()
        flats = self._room.flats[: len(self._exchange.in_peers)]
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
