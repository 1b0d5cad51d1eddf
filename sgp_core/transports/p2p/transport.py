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
    """Exchanges vectors by messages, from flat memory into flat memory.

    Nothing is allocated after the first exchange of each shape. There is no communicator beside the process group's,
    and no thread.

    ``mix`` sends from the vector itself. Its receive buffer is as large as the parameters, whatever the in-degree: with
    k in-peers the exchange runs in k waves, over a k-th of the vector each. ``post`` begins to mix a part of the
    vector, and ``post_ahead`` sends all of it, with a receive buffer per in-peer, which is the same as that of ``mix``
    for the first; what is kept apart is kept there. ``push`` sends from a copy, since the vector goes on changing. For
    messages that are under way for up to ``overlap_steps`` steps it has as many send buffers, and one receive buffer
    more than that for each in-peer. On CPUs a send buffer is overwritten chunk by chunk as the last message leaves it,
    so that the link is never idle.

    Args:
        like: a vector of the model's layout.
        group: the process group, None for the default one.
        overlap_steps: how many steps a pushed message may be under way when the next is pushed.
    """

    name = "p2p"

    def __init__(self, like: FlatVector, group: dist.ProcessGroup | None, overlap_steps: int = 0) -> None:
        self.marks: Marks | None = None
        self._messages = PointToPoint(group)
        self.rank, self.world_size = self._messages.rank, self._messages.world_size
        self._like = like
        self._overlap_steps = overlap_steps
        self._weights = WeightMessages(self._messages, like.tensors[0].device)
        self._send_buffers = deque(SendBuffer(like.zeros_like()) for _ in range(overlap_steps))
        self._channel = MessageChannel(like, self._messages)
        self._channel.inbox()  # allocated now rather than at the first step, where it may not fit

    # -- exchanges ---------------------------------------------------------------------------------------------------
    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``P_ii x + sum_j P_ij x_j`` in place; return the weight mixed in the same way (1 if None).

        Raises:
            PeerLost: a peer is gone.
        """
        if weight is not None:
            self._weights.post(weight, exchange)
        inbox = self._channel.open_inbox or self._channel.inbox()
        for wave in inbox.waves(x, exchange.in_degree):
            self._mix_wave(wave, exchange)
        if weight is None:
            return 1.0
        return exchange.own_weight * weight + weighted_sum(exchange.in_weights, self._weights.wait())

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> PendingMessage:
        """Begin to send ``x``, which must not change until the message is mixed into it, and to receive."""
        return self._channel.post(x, exchange, weight, self.marks)

    def post_ahead(self, x: FlatVector, exchange: Exchange, weight: float | None) -> PendingMessage:
        """Begin to send ``x``, which must not change until it is combined, and to receive."""
        return self._channel.post(x, exchange, weight, self.marks)

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> PendingMessage:
        """Begin to send ``x`` to the out-peers and to receive from the in-peers; ``x`` may change at once."""
        if not self._send_buffers:  # the algorithm did not declare messages in flight
            self._send_buffers.append(SendBuffer(self._like.zeros_like()))
        buffer = self._send_buffers[0]
        message = self._channel.send(buffer, x, exchange, weight, self.marks, max_in_degree=exchange.in_degree)
        if x.last:
            self._send_buffers.rotate(-1)
        return message

    def scratch(self) -> FlatVector:
        """Return memory of the model's layout that is free until the next ``mix``, ``post`` or ``push``.

        It is a receive buffer; while the only one is under way, it is memory that goes when the caller drops it.
        """
        if not self._overlap_steps and self._channel.exhausted:
            return self._like.zeros_like()
        return self._channel.inbox().first

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""
        for buffer in self._send_buffers:
            buffer.settle()

    # -- a wave of a mix ---------------------------------------------------------------------------------------------
    def _mix_wave(self, wave: list[MixChunk], exchange: Exchange) -> None:
        ins, outs = exchange.in_peers, exchange.out_peers
        receives = [self._messages.receive(s, peer) for c in wave for s, peer in zip(c.slots, ins, strict=False)]
        sends = [self._messages.send(chunk.mine, peer) for chunk in wave for peer in outs]
        arrivals, departures = self._messages.post(receives, sends, exchange)
        if self.marks is not None and not self.marks.posted:
            self.marks.posted = now()
        if len(arrivals) != len(receives):  # NCCL has one work for all messages
            wait(arrivals, exchange)
            arrivals = departures = []
        incoming, outgoing = iter(arrivals), iter(departures)
        for chunk in wave:
            wait(islice(incoming, len(ins)), exchange, ins, self.marks)
            wait(islice(outgoing, len(outs)), exchange, outs)
            mix_all_(chunk.mine, exchange.own_weight, chunk.slots, exchange.in_weights)
