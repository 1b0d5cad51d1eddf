"""Batched point-to-point messages on one torch.distributed process group: gloo or NCCL."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.flat import Flat
from sgp_core.runtime.mixing import GRAIN, mix_, mix_all_
from sgp_core.runtime.transports.base import Content, Exchange, Message
from sgp_core.timeline import Marks, now

_CHUNK_BYTES = 4 << 20
"""Messages on CPU are cut to this size, so that mixing one chunk runs beside the transfer of the next."""
_AT_ONCE_NS = 100_000
"""A wait that takes no longer found its message there already."""


@dataclass(frozen=True)
class _Chunk:
    """A stretch of a vector, and where the same stretch of each in-peer's vector is received."""

    mine: Tensor
    slots: list[Tensor]


class P2PTransport:
    """Messages leave from flat memory and arrive in flat memory, whole or in chunks.

    Receives are always posted before sends, since gloo serialises the two directions of a pair otherwise. Nothing is
    allocated after the first exchange of each shape, no communicator is created, and no thread.

    ``mix`` sends from the vector itself into an inbox as large as the parameters, whatever the in-degree: with k
    in-peers the exchange runs in k waves over a k-th of the vector each. ``push`` sends from a copy, since the vector
    goes on changing: messages up to ``overlap_steps`` steps old need as many copies, and one inbox more per in-peer.

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
        self._overlap_steps = overlap_steps
        self._room: list[Tensor] = []
        self._waves: WeakKeyDictionary[Flat, dict[int, list[list[_Chunk]]]] = WeakKeyDictionary()
        device = like.tensors[0].device
        self._weight_out = torch.zeros(1, dtype=torch.float64, device=device)
        self._weights_in = torch.zeros(self.world_size, 1, dtype=torch.float64, device=device)
        self._outboxes = deque(_Outbox(like) for _ in range(overlap_steps))
        self._inboxes: dict[int, list[_Inbox]] = {}
        if not overlap_steps:
            self._inbox()  # now rather than at the first step, where it may not fit

    # -- the two verbs ----------------------------------------------------------------------------------------------
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
        for wave in self._waves_of(x, exchange.in_degree):
            self._mix_wave(wave, exchange)
        if weight is None:
            return 1.0
        _wait(weights, exchange)
        return exchange.own * weight + _weighed(exchange, self._weights_in)

    def push(self, x: Flat, exchange: Exchange, weight: float) -> Message:
        """Begin to send ``x`` to the out-peers and to receive from the in-peers; ``x`` may be changed at once."""
        outbox = self._next_outbox()
        outbox.flat.copy_(x)
        outbox.weight.fill_(weight)
        free = self._inboxes.setdefault(exchange.in_degree, [])
        inbox = free.pop() if free else _Inbox(self._like, exchange.in_degree)
        receives = [self._receive(inbox.weights[slot], peer) for slot, peer in enumerate(exchange.in_peers)]
        sends = [self._send(outbox.weight, peer) for peer in exchange.out_peers]
        for sent, slots in zip(outbox.chunks, inbox.chunks, strict=True):
            receives += [self._receive(slot, peer) for slot, peer in zip(slots, exchange.in_peers, strict=False)]
            sends += [self._send(sent, peer) for peer in exchange.out_peers]
        works = self._batch(receives, sends)
        if len(works) == len(receives) + len(sends):
            arrivals, outbox.works = works[: len(receives)], works[len(receives) :]
        else:  # a backend that coalesces the batch into one operation: NCCL
            arrivals, outbox.works = works, works
        if self.marks is not None:
            self.marks.posted = now()
        outbox.exchange = exchange
        self._outboxes.rotate(-1)
        return _P2PMessage(exchange, inbox, arrivals, free, self.marks)

    def scratch(self) -> Flat:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""
        return self._next_outbox().flat if self._outboxes else self._inbox()

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""
        for outbox in self._outboxes:
            outbox.settle()

    # -- a wave of a mix ---------------------------------------------------------------------------------------------
    def _mix_wave(self, wave: list[_Chunk], exchange: Exchange) -> None:
        in_peers, out_peers = exchange.in_peers, exchange.out_peers
        receives = [self._receive(s, peer) for c in wave for s, peer in zip(c.slots, in_peers, strict=False)]
        sends = [self._send(chunk.mine, peer) for chunk in wave for peer in out_peers]
        works = self._batch(receives, sends)
        if self.marks is not None and not self.marks.posted:
            self.marks.posted = now()
        if len(works) != len(receives) + len(sends):  # a backend that coalesces the batch into one operation: NCCL
            _wait(works, exchange)
            works = []
        incoming, outgoing = iter(works[: len(receives)]), iter(works[len(receives) :])
        for chunk in wave:
            _wait(islice(incoming, len(in_peers)), exchange, self.marks)
            _wait(islice(outgoing, len(out_peers)), exchange)
            mix_all_(chunk.mine, exchange.own, chunk.slots, exchange.shares)

    def _waves_of(self, x: Flat, in_degree: int) -> list[list[_Chunk]]:
        """Return views for an exchange with up to ``in_degree`` in-peers anywhere; every rank cuts alike."""
        known = self._waves.setdefault(x, {})
        if in_degree not in known:
            self._inbox()
            known[in_degree] = _cut(x, self._room, in_degree)
        return known[in_degree]

    def _inbox(self) -> Flat:
        if not self._room:  # stretches are rounded up, so a wave may need a few elements more than the vector has
            self._room = [tensor.new_zeros(tensor.numel() + GRAIN * self.world_size) for tensor in self._like.tensors]
            self._scratch = Flat([r[: t.numel()] for r, t in zip(self._room, self._like.tensors, strict=True)])
        return self._scratch

    # -- messages ----------------------------------------------------------------------------------------------------
    def _next_outbox(self) -> _Outbox:
        if not self._outboxes:  # an algorithm that pushes without having said so
            self._outboxes.append(_Outbox(self._like))
        outbox = self._outboxes[0]
        outbox.settle()
        return outbox

    def _batch(self, receives: list[dist.P2POp], sends: list[dist.P2POp]) -> list[Any]:
        posted = [*receives, *sends]
        return list(dist.batch_isend_irecv(posted)) if posted else []

    def _receive(self, into: Tensor, peer: int) -> dist.P2POp:
        return dist.P2POp(dist.irecv, into, self._global_rank[peer], self._group)

    def _send(self, what: Tensor, peer: int) -> dist.P2POp:
        return dist.P2POp(dist.isend, what, self._global_rank[peer], self._group)


class _Outbox:
    """A copy of a vector that is on its way."""

    def __init__(self, like: Flat) -> None:
        self.flat = like.zeros_like()
        self.weight = torch.zeros(1, dtype=torch.float64, device=like.tensors[0].device)
        self.chunks = [chunk for tensor in self.flat.tensors for chunk in _chunks(tensor)]
        self.works: Sequence[Any] = ()
        self.exchange: Exchange | None = None

    def settle(self) -> None:
        """Wait until it has left."""
        if self.exchange is not None:
            _wait(self.works, self.exchange)
            self.works, self.exchange = (), None


class _Inbox:
    """Where the vectors of all in-peers of one step arrive."""

    def __init__(self, like: Flat, in_degree: int) -> None:
        self.flats = [like.zeros_like() for _ in range(in_degree)]
        self.weights = torch.zeros(max(1, in_degree), 1, dtype=torch.float64, device=like.tensors[0].device)
        per_peer = [[chunk for tensor in flat.tensors for chunk in _chunks(tensor)] for flat in self.flats]
        self.chunks = list(zip(*per_peer, strict=True)) or [() for t in like.tensors for _ in _chunks(t)]


class _P2PMessage:
    """What :meth:`P2PTransport.push` has begun."""

    def __init__(
        self, exchange: Exchange, inbox: _Inbox, arrivals: Sequence[Any], free: list[_Inbox], marks: Marks | None
    ) -> None:
        self._exchange = exchange
        self._inbox = inbox
        self._arrivals = arrivals
        self._free = free
        self._posted = 0 if marks is None else marks.posted

    def add_to(self, x: Flat, marks: Marks | None = None) -> float:
        coalesced = len(self._arrivals) != len(self._exchange.in_peers) * (len(self._inbox.chunks) + 1)
        if coalesced:
            _wait(self._arrivals, self._exchange)
        arrivals = iter(() if coalesced else self._arrivals)
        if marks is not None:
            marks.posted = self._posted
            marks.hidden.update(self._exchange.in_peers)  # until one has to be waited for
        _wait(islice(arrivals, len(self._exchange.in_peers)), self._exchange)
        mine = (chunk for tensor in x.tensors for chunk in _chunks(tensor))
        for chunk, slots in zip(mine, self._inbox.chunks, strict=True):
            _wait(islice(arrivals, len(self._exchange.in_peers)), self._exchange, marks)
            for slot, share in zip(slots, self._exchange.shares, strict=False):
                mix_(chunk, 1.0, slot, share)
        weight = _weighed(self._exchange, self._inbox.weights)
        self._free.append(self._inbox)
        return weight

    def discard(self) -> None:
        """Leave it: what is still under way arrives in memory that nobody uses."""
        if self._inbox.weights.is_cuda:  # which may be given away at once, so let the stream wait; the host does not
            _wait(self._arrivals, self._exchange)

    def content(self) -> Content:
        _wait(self._arrivals, self._exchange)
        self._arrivals = ()
        return [
            ([tensor.clone() for tensor in flat.tensors], float(self._inbox.weights[slot]))
            for slot, flat in enumerate(self._inbox.flats[: len(self._exchange.in_peers)])
        ]


def _weighed(exchange: Exchange, weights: Tensor) -> float:
    total = 0.0
    received = weights[: len(exchange.shares)].flatten().tolist()  # at once: on a GPU the host waits for the numbers
    for share, weight in zip(exchange.shares, received, strict=True):
        total += share * weight
    return total


def _wait(works: Iterable[Any], exchange: Exchange, marks: Marks | None = None) -> None:
    """Wait for works; with ``marks``, one from each in-peer in turn, note when and how long."""
    begin = 0 if marks is None else now()
    try:
        for slot, work in enumerate(works):
            looked = 0 if marks is None else now()
            work.wait()
            if marks is not None:
                marks.arrived[exchange.in_peers[slot]] = seen = now()
                if seen - looked > _AT_ONCE_NS:
                    marks.hidden.discard(exchange.in_peers[slot])
    except RuntimeError as error:
        raise exchange.lost(error) from error
    if marks is not None:
        marks.waited += now() - begin


def _chunks(tensor: Tensor) -> tuple[Tensor, ...]:
    size = tensor.numel() if tensor.is_cuda else max(1, _CHUNK_BYTES // tensor.element_size())
    return tensor.split(max(1, size))


def _cut(x: Flat, rooms: list[Tensor], in_degree: int) -> list[list[_Chunk]]:
    """Cut ``x`` into ``in_degree`` waves of chunks, each with one slot of the inbox per in-peer."""
    waves: list[list[_Chunk]] = [[] for _ in range(in_degree)]
    for mine, room in zip(x.tensors, rooms, strict=True):
        share = -(-mine.numel() // (GRAIN * in_degree)) * GRAIN if in_degree else 0
        chunk = share if mine.is_cuda else max(1, _CHUNK_BYTES // mine.element_size())
        for number, wave in enumerate(waves):
            begin, end = number * share, min((number + 1) * share, mine.numel())
            length = max(0, end - begin)
            for at in range(0, length, max(1, chunk)):
                size = min(chunk, length - at)
                slots = [room[s * length + at : s * length + at + size] for s in range(in_degree)]
                wave.append(_Chunk(mine[begin + at : begin + at + size], slots))
    return waves
