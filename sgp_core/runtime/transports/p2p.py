"""Batched point-to-point messages on one torch.distributed process group: gloo or NCCL."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.flat import Flat
from sgp_core.runtime.mixing import mix_all_
from sgp_core.runtime.transports.base import Content, Exchange
from sgp_core.runtime.transports.boxes import Chunk, Inbox, Outbox, Room, chunks_of, wait_for
from sgp_core.timeline import Marks, now


class P2PTransport:
    """Messages leave from flat memory and arrive in flat memory, whole or in chunks.

    Receives are always posted before sends, since gloo serialises the two directions of a pair otherwise. Nothing is
    allocated after the first exchange of each shape, no communicator is created, and no thread.

    ``mix`` sends from the vector itself into an inbox as large as the parameters, whatever the in-degree: with k
    in-peers the exchange runs in k waves over a k-th of the vector each. ``post`` begins that for a part of the
    vector, into one inbox per in-peer. ``push`` sends from a copy, since the vector goes on changing: messages up to
    ``overlap_steps`` steps old need as many copies, and one inbox more per in-peer. A copy is written to chunk by chunk
    as the last message leaves, so that the link never runs dry.

    Args:
        like: a vector of the model's layout.
        group: the process group, None for the default one.
        overlap_steps: how many steps a pushed message may be under way when the next is pushed.
    """

    name = "p2p"

    def __init__(self, like: Flat, group: dist.ProcessGroup | None, overlap_steps: int = 0) -> None:
        self.marks: Marks | None = None
        self._group = group
        self.rank, self.world_size = dist.get_rank(group), dist.get_world_size(group)
        self._global_rank = [r if group is None else dist.get_global_rank(group, r) for r in range(self.world_size)]
        self._like = like
        device = like.tensors[0].device
        self._coalesces = device.type == "cuda"  # NCCL wants a batch as one operation, and its streams need no waits
        self._weight_out = torch.zeros(1, dtype=torch.float64, device=device)
        self._weights_in = torch.zeros(self.world_size, 1, dtype=torch.float64, device=device)
        self._outboxes = deque(Outbox(like) for _ in range(overlap_steps))
        self._free: list[Inbox] = []
        self._opened: Inbox | None = None
        self._begun = 0
        self._inbox()  # now rather than at the first step, where it may not fit

    # -- the verbs ---------------------------------------------------------------------------------------------------
    def mix(self, x: Flat, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``own x + sum_j share_j x_j`` in place; return the weight mixed alike (1 if None).

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        weights = []
        if weight is not None:
            self._weight_out.fill_(weight)
            weights = self._batch(
                [self._receive(self._weights_in[slot], peer) for slot, peer in enumerate(exchange.in_peers)],
                [self._send(self._weight_out, peer) for peer in exchange.out_peers],
            )
        for wave in self._inbox().waves(x, exchange.in_degree):
            self._mix_wave(wave, exchange)
        if weight is None:
            return 1.0
        wait_for(weights, exchange)
        return exchange.own * weight + _weighed(exchange, self._weights_in)

    def post(self, x: Flat, exchange: Exchange, weight: float | None) -> P2PMessage:
        """Begin to send ``x``, which stays as it is until the message is mixed into it, and to receive."""
        inbox, room = self._borrow(x, exchange)
        outgoing = room.mine
        if weight is not None:
            room.weight_out.fill_(weight)
            outgoing = [room.weight_out, *outgoing]
        receives = self._receives(room, exchange, weighed=weight is not None)
        sends = [self._send(piece, peer) for piece in outgoing for peer in exchange.out_peers]
        works = self._batch(receives, sends)
        self._mark()
        return P2PMessage(self, exchange, inbox, room, works, len(receives), weighed=weight is not None)

    def push(self, x: Flat, exchange: Exchange, weight: float | None) -> P2PMessage:
        """Begin to send ``x`` to the out-peers and to receive from the in-peers; ``x`` may be changed at once."""
        if not self._outboxes:  # an algorithm that pushes without having said so
            self._outboxes.append(Outbox(self._like))
        outbox = self._outboxes[0]
        inbox, room = self._borrow(x, exchange)
        if not self._begun:
            self._outboxes.rotate(-1)
        receives = self._receives(room, exchange, weighed=weight is not None)
        works = [] if self._coalesces else self._batch(receives, [])
        parcels, sends = outbox.parcels(x), []
        for parcel, mine in zip(parcels, [None, *room.mine], strict=True):
            parcel.settle()
            if mine is not None:
                parcel.tensor.copy_(mine)
            elif weight is not None:
                parcel.tensor.fill_(weight)
            else:
                continue
            sending = [self._send(parcel.tensor, peer) for peer in exchange.out_peers]
            if self._coalesces:
                sends += sending
            else:
                parcel.leaves(self._batch([], sending), exchange)
        if self._coalesces:
            works = self._batch(receives, sends)
            for parcel in parcels:
                parcel.leaves(works, exchange)
        self._mark()
        return P2PMessage(self, exchange, inbox, room, works, len(receives), weighed=weight is not None)

    def scratch(self) -> Flat:
        """Return memory laid out like the model that is free until the next ``mix``, ``post`` or ``push``."""
        return self._inbox().first

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""
        for outbox in self._outboxes:
            outbox.settle()

    # -- boxes -------------------------------------------------------------------------------------------------------
    def _inbox(self) -> Inbox:
        """Return the inbox of the step that is about to be, always the same until that has begun for all of ``x``."""
        if self._opened is None:
            self._opened = self._free.pop() if self._free else Inbox(self._like, self.world_size)
        return self._opened

    def _borrow(self, x: Flat, exchange: Exchange) -> tuple[Inbox, Room]:
        """Return where the in-peers' ``x`` arrives: all of a step's vector, or its next part.

        After the last part the next step has another inbox.
        """
        inbox = self._inbox()
        inbox.lent += x.numel
        self._begun += x.numel
        if self._begun == self._like.numel:
            self._begun, self._opened = 0, None
        return inbox, inbox.room(x, exchange.in_degree)

    def give_back(self, inbox: Inbox, elements: int) -> None:
        """Let the memory that so many elements of each in-peer arrived in be used again."""
        inbox.lent -= elements
        if not inbox.lent and inbox is not self._opened:
            self._free.append(inbox)

    # -- a wave of a mix ---------------------------------------------------------------------------------------------
    def _mix_wave(self, wave: list[Chunk], exchange: Exchange) -> None:
        in_peers, out_peers = exchange.in_peers, exchange.out_peers
        receives = [self._receive(s, peer) for c in wave for s, peer in zip(c.slots, in_peers, strict=False)]
        sends = [self._send(chunk.mine, peer) for chunk in wave for peer in out_peers]
        works = self._batch(receives, sends)
        self._mark()
        if self._coalesces:
            wait_for(works, exchange)
            works = []
        incoming, outgoing = iter(works[: len(receives)]), iter(works[len(receives) :])
        for chunk in wave:
            wait_for(islice(incoming, len(in_peers)), exchange, self.marks)
            wait_for(islice(outgoing, len(out_peers)), exchange)
            mix_all_(chunk.mine, exchange.own, chunk.slots, exchange.shares)

    # -- messages ----------------------------------------------------------------------------------------------------
    def _mark(self) -> None:
        if self.marks is not None and not self.marks.posted:
            self.marks.posted = now()

    def _receives(self, room: Room, exchange: Exchange, *, weighed: bool) -> list[dist.P2POp]:
        """Return receives of the weight and of every chunk in turn, each from every in-peer."""
        pieces = [room.weight_slots, *room.slots] if weighed else room.slots
        return [self._receive(s, peer) for slots in pieces for s, peer in zip(slots, exchange.in_peers, strict=False)]

    def _batch(self, receives: list[dist.P2POp], sends: list[dist.P2POp]) -> list[Any]:
        posted = [*receives, *sends]
        return list(dist.batch_isend_irecv(posted)) if posted else []

    def _receive(self, into: Tensor, peer: int) -> dist.P2POp:
        return dist.P2POp(dist.irecv, into, self._global_rank[peer], self._group)

    def _send(self, what: Tensor, peer: int) -> dist.P2POp:
        return dist.P2POp(dist.isend, what, self._global_rank[peer], self._group)


class P2PMessage:
    """What :meth:`P2PTransport.post` and :meth:`P2PTransport.push` have begun: a vector, or a part of it."""

    def __init__(
        self,
        transport: P2PTransport,
        exchange: Exchange,
        inbox: Inbox,
        room: Room,
        works: Sequence[Any],
        arrivals: int,
        *,
        weighed: bool,
    ) -> None:
        self._transport = transport
        self._exchange = exchange
        self._inbox = inbox
        self._room = room
        coalesced = bool(works) and len(works) < arrivals  # into one operation: NCCL
        self._all = works if coalesced else ()
        self._arrivals = () if coalesced else works[:arrivals]
        self._departures = () if coalesced else works[arrivals:]
        self._weighed = weighed
        self._posted = 0 if transport.marks is None else transport.marks.posted

    def add_to(self, x: Flat, marks: Marks | None = None) -> float:
        """Add ``sum_j P_ij x_j`` to ``x``, which is laid out like what was pushed; return ``sum_j P_ij w_j`` or 0."""
        return self._mix_into(x, 1.0, marks)

    def mix_into(self, x: Flat, marks: Marks | None = None) -> float:
        """Replace ``x``, which was posted, by ``own x + sum_j P_ij x_j``; return ``sum_j P_ij w_j`` (0 without)."""
        return self._mix_into(x, self._exchange.own, marks)

    def _mix_into(self, x: Flat, own: float, marks: Marks | None) -> float:
        exchange = self._exchange
        ins, outs = len(exchange.in_peers), len(exchange.out_peers)
        wait_for(self._all, exchange)
        arrivals, departures = iter(self._arrivals), iter(self._departures)
        if marks is not None:
            marks.posted = self._posted
            marks.hidden.update(exchange.in_peers)  # until one has to be waited for
        if self._weighed:
            wait_for(islice(arrivals, ins), exchange)
            wait_for(islice(departures, outs), exchange)
        for chunk, slots in zip(chunks_of(x), self._room.slots, strict=True):
            wait_for(islice(arrivals, ins), exchange, marks)
            wait_for(islice(departures, outs), exchange)
            mix_all_(chunk, own, slots, exchange.shares)
        weight = _weighed(exchange, self._room.weights) if self._weighed else 0.0
        self._transport.give_back(self._inbox, x.numel)
        return weight

    def discard(self) -> None:
        """Leave it: what is still under way arrives in memory that nobody uses."""
        if self._room.weights.is_cuda:  # which may be given away at once, so let the stream wait; the host does not
            wait_for(self._all, self._exchange)
            wait_for(self._arrivals, self._exchange)

    def content(self) -> Content:
        wait_for(self._all, self._exchange)
        wait_for(self._arrivals, self._exchange)
        self._all = self._arrivals = ()
        return [
            ([tensor.clone() for tensor in flat.tensors], float(self._room.weights[slot]) if self._weighed else 0.0)
            for slot, flat in enumerate(self._room.flats[: len(self._exchange.in_peers)])
        ]


def _weighed(exchange: Exchange, weights: Tensor) -> float:
    total = 0.0
    received = weights[: len(exchange.shares)].flatten().tolist()  # at once: on a GPU the host waits for the numbers
    for share, weight in zip(exchange.shares, received, strict=True):
        total += share * weight
    return total
