"""Batched point-to-point messages on one torch.distributed process group: gloo or NCCL."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from weakref import WeakKeyDictionary

import torch.distributed as dist
from torch import Tensor

from sgp_core.flat import Flat
from sgp_core.runtime.mixing import GRAIN, mix_all_
from sgp_core.runtime.transports.base import Exchange, Message
from sgp_core.runtime.transports.letters import CHUNK_BYTES, Letters, Outbox
from sgp_core.runtime.transports.wire import Weights, Wire, wait, weighed
from sgp_core.timeline import Marks, now


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
        self._wire = Wire(group)
        self.rank, self.world_size = self._wire.rank, self._wire.world_size
        self._like = like
        self._room: list[Tensor] = []
        self._waves: WeakKeyDictionary[Flat, dict[int, list[list[_Chunk]]]] = WeakKeyDictionary()
        self._weights = Weights(self._wire, like.tensors[0].device)
        self._outboxes = deque(Outbox(like.zeros_like()) for _ in range(overlap_steps))
        self._letters = Letters(like, self._wire)
        if not overlap_steps:
            self._inbox()  # now rather than at the first step, where it may not fit

    # -- the two verbs ----------------------------------------------------------------------------------------------
    def mix(self, x: Flat, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``own x + sum_j share_j x_j`` in place; return the weight mixed alike (1 if None).

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        if weight is not None:
            self._weights.post(weight, exchange)
        for wave in self._waves_of(x, exchange.in_degree):
            self._mix_wave(wave, exchange)
        if weight is None:
            return 1.0
        return exchange.own * weight + weighed(exchange, self._weights.arrived())

    def push(self, x: Flat, exchange: Exchange, weight: float) -> Message:
        """Begin to send ``x`` to the out-peers and to receive from the in-peers; ``x`` may be changed at once."""
        outbox = self._next_outbox()
        outbox.flat.copy_(x)
        letter = self._letters.send(outbox, exchange, weight, exchange.in_degree, self.marks)
        self._outboxes.rotate(-1)
        return letter

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
        wire = self._wire
        arrivals, departures = wire.post(
            [wire.receive(s, peer) for c in wave for s, peer in zip(c.slots, in_peers, strict=False)],
            [wire.send(chunk.mine, peer) for chunk in wave for peer in out_peers],
        )
        if self.marks is not None and not self.marks.posted:
            self.marks.posted = now()
        if arrivals is departures:  # one operation
            wait(arrivals, exchange)
            arrivals = departures = []
        incoming, outgoing = iter(arrivals), iter(departures)
        for chunk in wave:
            wait(islice(incoming, len(in_peers)), exchange, in_peers, self.marks)
            wait(islice(outgoing, len(out_peers)), exchange, out_peers)
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
    def _next_outbox(self) -> Outbox:
        if not self._outboxes:  # an algorithm that pushes without having said so
            self._outboxes.append(Outbox(self._like.zeros_like()))
        outbox = self._outboxes[0]
        outbox.settle()
        return outbox


def _cut(x: Flat, rooms: list[Tensor], in_degree: int) -> list[list[_Chunk]]:
    """Cut ``x`` into ``in_degree`` waves of chunks, each with one slot of the inbox per in-peer."""
    waves: list[list[_Chunk]] = [[] for _ in range(in_degree)]
    for mine, room in zip(x.tensors, rooms, strict=True):
        share = -(-mine.numel() // (GRAIN * in_degree)) * GRAIN if in_degree else 0
        chunk = share if mine.is_cuda else max(1, CHUNK_BYTES // mine.element_size())
        for number, wave in enumerate(waves):
            begin, end = number * share, min((number + 1) * share, mine.numel())
            length = max(0, end - begin)
            for at in range(0, length, max(1, chunk)):
                size = min(chunk, length - at)
                slots = [room[s * length + at : s * length + at + size] for s in range(in_degree)]
                wave.append(_Chunk(mine[begin + at : begin + at + size], slots))
    return waves
