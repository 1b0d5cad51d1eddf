"""Batched point-to-point messages on one torch.distributed process group: gloo or NCCL."""

from __future__ import annotations

from collections import deque
from itertools import islice

import torch.distributed as dist

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.point_to_point import PointToPoint, WeightMessages, wait
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import mix_all_, weighted_sum
from sgp_core.timeline import Marks, now
from sgp_core.transports.p2p.buffers import MixChunk, SendBuffer
from sgp_core.transports.p2p.pending_message import MessageChannel, PendingMessage


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

    def __init__(self, like: FlatVector, group: dist.ProcessGroup | None, overlap_steps: int = 0) -> None:
        self.marks: Marks | None = None
        self._wire = PointToPoint(group)
        self.rank, self.world_size = self._wire.rank, self._wire.world_size
        self._like = like
        self._weights = WeightMessages(self._wire, like.tensors[0].device)
        self._outboxes = deque(SendBuffer(like.zeros_like()) for _ in range(overlap_steps))
        self._letters = MessageChannel(like, self._wire)
        self._letters.inbox()  # now rather than at the first step, where it may not fit

    # -- the verbs ---------------------------------------------------------------------------------------------------
    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``own x + sum_j share_j x_j`` in place; return the weight mixed alike (1 if None).

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        if weight is not None:
            self._weights.post(weight, exchange)
        for wave in self._letters.inbox().waves(x, exchange.in_degree):
            self._mix_wave(wave, exchange)
        if weight is None:
            return 1.0
        return exchange.own_weight * weight + weighted_sum(exchange.in_weights, self._weights.arrived())

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> PendingMessage:
        """Begin to send ``x``, which stays as it is until the message is mixed into it, and to receive."""
        return self._letters.post(x, exchange, weight, self.marks)

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> PendingMessage:
        """Begin to send ``x`` to the out-peers and to receive from the in-peers; ``x`` may be changed at once."""
        if not self._outboxes:  # an algorithm that pushes without having said so
            self._outboxes.append(SendBuffer(self._like.zeros_like()))
        letter = self._letters.send(self._outboxes[0], x, exchange, weight, self.marks, most=exchange.in_degree)
        if x.last:
            self._outboxes.rotate(-1)
        return letter

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next ``mix``, ``post`` or ``push``."""
        return self._letters.inbox().first

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""
        for outbox in self._outboxes:
            outbox.settle()

    # -- a wave of a mix ---------------------------------------------------------------------------------------------
    def _mix_wave(self, wave: list[MixChunk], exchange: Exchange) -> None:
        ins, outs = exchange.in_peers, exchange.out_peers
        receives = [self._wire.receive(s, peer) for c in wave for s, peer in zip(c.slots, ins, strict=False)]
        sends = [self._wire.send(chunk.mine, peer) for chunk in wave for peer in outs]
        arrivals, departures = self._wire.post(receives, sends)
        if self.marks is not None and not self.marks.posted:
            self.marks.posted = now()
        if len(arrivals) != len(receives):  # one work for all messages: NCCL
            wait(arrivals, exchange)
            arrivals = departures = []
        incoming, outgoing = iter(arrivals), iter(departures)
        for chunk in wave:
            wait(islice(incoming, len(ins)), exchange, ins, self.marks)
            wait(islice(outgoing, len(outs)), exchange, outs)
            mix_all_(chunk.mine, exchange.own_weight, chunk.slots, exchange.in_weights)
