"""PushSum with mailboxes over messages."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from sgp_core.asynchronous.messages.carrier import MessageCarrier
from sgp_core.asynchronous.messages.peer_connection import Header, MessageKind, PeerConnection
from sgp_core.asynchronous.network import Seen
from sgp_core.asynchronous.push_sum import PushSumNetwork
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology


class MessageMailboxes(MessageCarrier, PushSumNetwork):
    """Shares travel by themselves and wait where they arrive; who has added one says so, and gets the next.

    So at most one share, travelling or waiting, lies on an edge, and a worker needs about as many buffers as it has
    edges with something on them. Buffers pass between threads through deques, and sets say who has collected; each
    changes in one atomic operation, and nobody holds a lock.

    A share's age in seconds is that from the push to its leaving, by the sender's clock, and from the arrival of its
    header to its use, by the receiver's: all but the header's way.
    """

    def __init__(self, topology: Topology, *arguments: Any, **options: Any) -> None:
        self._inbox: deque[tuple[int, Header, float, FlatVector]] = deque()
        self._uncollected: set[int] = set()
        """Peers that have not collected the last share."""
        self._standing: set[int] = set()
        self._pushed = [0] * topology.world_size
        """After how many of its steps each peer is known to have pushed."""
        super().__init__(topology, *arguments, **options)

    def _handle(self, line: PeerConnection, note: Header) -> None:
        if note.kind == MessageKind.share:
            began = time.monotonic() - note.seconds
            buffer = self._pool.take()
            line.read(buffer)
            self._inbox.append((line.peer, note, began, buffer))
        if note.kind in (MessageKind.share, MessageKind.pushed):
            self._pushed[line.peer] = note.step + 1
        elif note.kind == MessageKind.collected:
            self._uncollected.discard(line.peer)
        elif note.kind == MessageKind.standing:
            self._standing.add(line.peer)
        else:
            super()._handle(line, note)

    def _accepts(self, peer: int) -> bool:
        return peer not in self._uncollected and peer not in self._standing

    def _put(self, peer: int, step: int, x: FlatVector, share: float, weight: float) -> None:
        outbox = self._pool.take()
        outbox.copy_(x).mul_(share)
        self._uncollected.add(peer)
        self._lines[peer].send(MessageKind.share, step, share * weight, outbox, self._pool.give)

    def _take(self, x: FlatVector, *, wait: bool, tell: bool = True) -> tuple[float, list[tuple[int, int, float]]]:
        total, messages = 0.0, []
        for _ in range(len(self._inbox)):
            sender, note, began, buffer = self._inbox.popleft()
            x.add_(buffer)
            total += note.weight
            messages.append((sender, note.step, time.monotonic() - began))
            self._pool.give(buffer)
            if tell:
                self._lines[sender].send(MessageKind.collected)
        return total, messages

    def _tell(self, step: int) -> None:
        for peer in self.topology.out_peers(self.rank, step):
            if peer not in self._sent:
                self._lines[peer].send(MessageKind.pushed, step)

    def _steps_of(self, peer: int) -> int:
        return self._pushed[peer]

    def _gather(self) -> None:
        for line in self._lines.values():
            line.send(MessageKind.standing)
        super()._gather()

    def _met(self, steps: dict[int, int]) -> None:
        for peer, pushed in steps.items():
            self._pushed[peer] = pushed
        self._uncollected.clear()  # what lies here is about to be added, by everybody
        self._standing.clear()

    def _deliver(self, x: FlatVector, weight: float) -> tuple[Seen, float]:
        arrived, messages = self._take(x, wait=True, tell=False)
        return tuple((sender, sent_at) for sender, sent_at, _ in messages), weight + arrived

    def _restart(self) -> None:
        self._take(self._scratch, wait=True, tell=False)

    def begin(self, step: int) -> None:
        """Begin after ``step`` steps, from the parameters as they are now, with nothing under way. Collective."""
        self._steps = step  # for the others to know
        super().begin(step)
