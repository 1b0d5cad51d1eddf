"""Mailboxes over messages that may be lost, doubled, late or out of order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import torch.distributed as dist

from sgp_core.asynchronous.link_faults import FaultyLink, LinkFaults
from sgp_core.asynchronous.messages.mailboxes import MessageMailboxes
from sgp_core.asynchronous.messages.peer_connection import Header, MessageKind, PeerConnection
from sgp_core.asynchronous.retransmission import SendingEnd
from sgp_core.distributed.collectives import Collectives
from sgp_core.tensors.flat_vector import FlatVector


class _Share(NamedTuple):
    x: FlatVector
    weight: float


class _Letter(NamedTuple):
    """A share, or without one what acknowledges the share of a number."""

    number: int
    copy: int
    share: _Share | None = None


class LossyMailboxes(MessageMailboxes):
    """Shares have numbers, and acknowledgements say which; the rule is that of :class:`SendingEnd`.

    Shares and acknowledgements are subject to faults. What workers say to meet, and how far they are, is not. In a
    meeting, messages that are late arrive, and what is not acknowledged is sent once more, past all faults: then every
    share has been added once. So no state is left that would have to be saved.

    All but :meth:`_handle` runs in the training thread. Threads pass on what has come through deques.

    Args:
        faults: of all links; None: none.
        retransmits: whether shares are sent again; if not, what is lost is lost. Others as of the base.
    """

    def __init__(
        self, group: dist.ProcessGroup | None, params: FlatVector, faults: LinkFaults | None, *, retransmits: bool
    ) -> None:
        workers = Collectives(group)
        peers = [peer for peer in range(workers.size) if peer != workers.rank]
        self._faults = faults
        self._retransmits = retransmits
        self._ends: dict[int, SendingEnd[_Share]] = {peer: SendingEnd() for peer in peers}
        self._links: dict[int, FaultyLink[_Letter]] = {
            peer: FaultyLink(faults, workers.rank, peer) for peer in peers if faults is not None
        }
        self._last = [-1] * workers.size
        """The number of the last share of each peer."""
        self._arrived: deque[tuple[int, Header]] = deque()
        """Shares, and copies of shares, to acknowledge when this worker next looks."""
        self._acknowledged: deque[tuple[int, Header]] = deque()
        self._leaving: set[int] = set()
        """Peers to whom a share is queued that has not left."""
        super().__init__(group, params)  # last: it starts the threads that use these

    def accepts(self, peer: int) -> bool:
        """Whether ``peer`` is known to have collected this worker's last share, and is not waiting in a meeting."""
        self._read_acknowledgements()
        return self._ends[peer].share is None and peer not in self._waiting

    def put(self, peer: int, step: int, x: FlatVector, share: float, weight: float) -> None:
        """Send ``share * x`` and ``share * weight`` to ``peer`` for the first time."""
        content = self._pool.take()
        content.copy_(x).mul_(share)
        letter = _Letter(step, 0, _Share(content, share * weight))
        assert letter.share is not None
        self._ends[peer].leave(step, letter.share)
        self._connections[peer].send(MessageKind.pushed, step)  # the share may never come
        self._send(peer, letter)

    def resend(self, step: int) -> int:
        """Let late messages leave, and send again what was not acknowledged in time; return how many shares."""
        self._read_acknowledgements()
        for peer, link in self._links.items():
            self._pass_on(peer, link.advance(step))
        copies = 0
        for peer, end in self._ends.items() if self._retransmits else ():
            if peer in self._leaving or peer in self._waiting:
                continue  # a peer that is stopped is not buried in copies
            if (share := end.due(step)) is not None:
                self._send(peer, _Letter(share.step, share.copy, share.content))
                copies += 1
        return copies

    def take(self, x: FlatVector, *, wait: bool) -> tuple[float, tuple[tuple[int, int], ...]]:
        """Add what lies in the inbox to ``x``, and acknowledge it; once more what was acknowledged in vain."""
        arrived = [self._arrived.popleft() for _ in range(len(self._arrived))]  # by now in the inbox, or added
        taken = self.take_assembled(x)
        for sender, header in arrived:
            self._send(sender, _Letter(header.step, header.copy))
        return taken

    def assemble(self, steps: int) -> None:
        """Return once all workers have come, and all they sent has landed, what was lost included. Collective."""
        self._read_acknowledgements()
        for peer, link in self._links.items():
            self._pass_on(peer, link.flush())
        for peer, end in self._ends.items() if self._retransmits else ():
            if end.share is not None:
                self._pass_on(peer, [_Letter(end.share.step, end.share.copy, end.share.content)])
        super().assemble(steps)

    # -- inside --------------------------------------------------------------------------------------------------------
    def _send(self, peer: int, letter: _Letter) -> None:
        link = self._links.get(peer)
        self._pass_on(peer, [letter] if link is None else link.send(self._steps, letter))

    def _pass_on(self, peer: int, letters: Iterable[_Letter]) -> None:
        for number, copy, share in letters:
            if share is None:
                self._connections[peer].send(MessageKind.collected, number, copy=copy)
                continue
            send_buffer = self._pool.take()
            send_buffer.copy_(share.x)
            self._leaving.add(peer)

            def leave(buffer: FlatVector) -> None:
                self._leaving.discard(peer)
                self._pool.give(buffer)

            self._connections[peer].send(MessageKind.share, number, share.weight, send_buffer, leave, copy)

    def _read_acknowledgements(self) -> None:
        for _ in range(len(self._acknowledged)):
            peer, header = self._acknowledged.popleft()
            self._free(self._ends[peer].acknowledge(header.step, header.copy, self._steps))

    def _free(self, share: _Share | None) -> None:
        if share is not None and self._faults is None:  # else a late message may still be made of it
            self._pool.give(share.x)

    def _handle(self, connection: PeerConnection, header: Header) -> None:
        peer = connection.peer
        if header.kind == MessageKind.share:
            buffer = self._pool.take()
            connection.read(buffer)
            if self._retransmits and header.step <= self._last[peer]:
                self._pool.give(buffer)
            else:
                self._last[peer] = header.step
                self._inbox.append((peer, header, buffer))
            self._arrived.append((peer, header))
        elif header.kind == MessageKind.collected:
            self._acknowledged.append((peer, header))
        else:
            super()._handle(connection, header)

    def _settle(self, steps: dict[int, int]) -> None:
        super()._settle(steps)
        for peer, end in self._ends.items():
            self._free(end.settle())
            self._last[peer] = -1  # numbers may begin anew
        self._arrived.clear()
        self._acknowledged.clear()
