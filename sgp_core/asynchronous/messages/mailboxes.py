"""Mailboxes over messages."""

from __future__ import annotations

from collections import deque

import torch.distributed as dist

from sgp_core.asynchronous.carrier import Seen
from sgp_core.asynchronous.messages.carrier import MessageCarrier
from sgp_core.asynchronous.messages.peer_connection import Header, MessageKind, PeerConnection
from sgp_core.distributed.collectives import Collectives
from sgp_core.tensors.flat_vector import FlatVector


class MessageMailboxes(MessageCarrier):
    """Shares leave by themselves and wait where they arrive; who has added one says so, and gets the next.

    So at most one share lies on an edge, on its way or waiting, and a worker needs about as many buffers as it has
    edges with a share on them. Buffers pass between threads through deques, and sets say which peers have not
    collected; each changes in one atomic operation, and no lock is held.
    """

    def __init__(self, group: dist.ProcessGroup | None, params: FlatVector) -> None:
        self._inbox: deque[tuple[int, Header, FlatVector]] = deque()
        self._uncollected: set[int] = set()
        """Peers that have not collected the last share."""
        self._waiting: set[int] = set()
        """Peers that wait in a meeting."""
        self._pushed = [0] * Collectives(group).size
        """After how many of its steps each peer is known to have pushed."""
        super().__init__(group, params)  # last: it starts the threads that use these

    def accepts(self, peer: int) -> bool:
        """Whether ``peer`` has collected this worker's last message, and is not waiting in a meeting."""
        return peer not in self._uncollected and peer not in self._waiting

    def put(self, peer: int, step: int, x: FlatVector, share: float, weight: float) -> None:
        """Leave ``share * x`` and ``share * weight`` with ``peer``."""
        send_buffer = self._pool.take()
        send_buffer.copy_(x).mul_(share)
        self._uncollected.add(peer)
        self._connections[peer].send(MessageKind.share, step, share * weight, send_buffer, self._pool.give)

    def announce(self, step: int, peers: list[int]) -> None:
        """Let ``peers``, who got nothing at ``step``, know that it has been pushed."""
        for peer in peers:
            self._connections[peer].send(MessageKind.pushed, step)

    def resend(self, step: int) -> int:
        """Do nothing: these links lose nothing."""
        return 0

    def take(self, x: FlatVector, *, wait: bool) -> tuple[float, Seen]:
        """Add what lies in the inbox to ``x``, and let the senders know."""
        weight, seen = self.take_assembled(x)
        for sender, _ in seen:
            self._connections[sender].send(MessageKind.collected)
        return weight, seen

    def take_assembled(self, x: FlatVector) -> tuple[float, Seen]:
        """Add what lies in the inbox to ``x``; in a meeting every sender knows."""
        weight, seen = 0.0, []
        for _ in range(len(self._inbox)):
            sender, header, buffer = self._inbox.popleft()
            x.add_(buffer)
            weight += header.weight
            seen.append((sender, header.step))
            self._pool.give(buffer)
        return weight, tuple(seen)

    def steps_of(self, peer: int) -> int:
        """Return after how many of its steps an in-peer is known to have pushed."""
        return self._pushed[peer]

    def assemble(self, steps: int) -> None:
        """Return once all workers have come, and everything they have sent has landed. Collective."""
        for connection in self._connections.values():
            connection.send(MessageKind.standing)
        super().assemble(steps)

    def _handle(self, connection: PeerConnection, header: Header) -> None:
        if header.kind == MessageKind.share:
            buffer = self._pool.take()
            connection.read(buffer)
            self._inbox.append((connection.peer, header, buffer))
        if header.kind in (MessageKind.share, MessageKind.pushed):
            self._pushed[connection.peer] = header.step + 1
        elif header.kind == MessageKind.collected:
            self._uncollected.discard(connection.peer)
        elif header.kind == MessageKind.standing:
            self._waiting.add(connection.peer)
        else:
            super()._handle(connection, header)

    def _settle(self, steps: dict[int, int]) -> None:
        for peer, pushed in steps.items():
            self._pushed[peer] = pushed
        self._uncollected.clear()  # what lies in inboxes is about to be added, by all workers
        self._waiting.clear()
