"""A connection to every other worker. Messages leave and arrive in threads of their own.

gloo cannot be asked whether something has arrived, so threads wait for it, two for each peer: one in which messages
leave in order, one that sits in ``recv``. They wait with the interpreter lock released. As each is concerned with one
peer only, a peer that is stopped, slow or behind a slow link delays no other peer's messages, and it is always known
which peer is gone. The two directions of a pair have connections of their own: on one, gloo lets them wait for each
other.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from enum import IntEnum
from queue import SimpleQueue
from threading import Lock, Thread
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.process_group import disconnect_gloo, group_timeout
from sgp_core.tensors.flat_vector import FlatVector

_FOR_EVER = timedelta(days=3650)
"""A wait that runs out would close the connection."""
_CLOSING_SECONDS = 5.0
"""How long to wait, when closing, for what still is to leave."""


class MessageKind(IntEnum):
    """What a message says. The first word of every header."""

    share = 1
    """A share follows, of ``step`` and of ``weight``."""
    collected = 2
    """The share has been added."""
    pushed = 3
    """The sender has pushed at ``step``, and had no share to give."""
    standing = 4
    """The sender stands still until all have met."""
    request = 5
    """The sender's model follows, to be averaged with."""
    reply = 6
    """The average follows; ``step`` is the version of the sender's model before."""
    call = 7
    """All are to meet."""
    closed = 8
    """The sender has closed its Gossip; nothing follows."""


class Header(NamedTuple):
    """The header of a message: all of it, or what it says about the vector that follows."""

    kind: int
    step: int = 0
    weight: float = 0.0
    copy: int = 0
    """Of a share that is sent several times, from 0."""


class _OutgoingMessage(NamedTuple):
    note: Header
    content: FlatVector | None
    done: Callable[[FlatVector], None] | None


class PeerConnection:
    """The connection to and from one peer.

    Args:
        peer: its rank.
        out: process group in which to send to it.
        into: process group in which it sends.
        handle: called in the receiving thread with each message's header; if a vector follows it must :meth:`read` it.
        lose: called in the receiving thread, with the reason, if the peer is gone without having closed.

    Attributes:
        sent: number of messages queued for the peer.
        received: messages that have been handled.
        left: whether the peer has closed its Gossip.
    """

    def __init__(
        self,
        peer: int,
        out: dist.ProcessGroupGloo,
        into: dist.ProcessGroupGloo,
        handle: Callable[[PeerConnection, Header], None],
        lose: Callable[[int, RuntimeError], None],
    ) -> None:
        self.peer = peer
        self.sent = self.received = 0
        self.left = False
        self._out, self._into = out, into
        self._handle, self._lose = handle, lose
        self._queue: SimpleQueue[_OutgoingMessage | None] = SimpleQueue()
        self._counting = Lock()
        self._sending = Thread(target=self._send_all, name=f"to rank {peer}", daemon=True)
        self._receiving = Thread(target=self._receive_all, name=f"from rank {peer}", daemon=True)

    def start(self) -> None:
        """Begin to send and to receive."""
        self._sending.start()
        self._receiving.start()

    def send(
        self,
        kind: MessageKind,
        step: int = 0,
        weight: float = 0.0,
        content: FlatVector | None = None,
        done: Callable[[FlatVector], None] | None = None,
        copy: int = 0,
    ) -> None:
        """Queue a message, without waiting.

        Args:
            content: a vector that follows; it must not change before it has left.
            done: called with it then, in the sending thread.
        """
        message = _OutgoingMessage(Header(kind, step, weight, copy), content, done)
        with self._counting:  # several threads send
            self.sent += 1
            self._queue.put(message)

    def read(self, vector: FlatVector) -> None:
        """Receive what follows the header. For :attr:`handle`."""
        for work in [_receive(self._into, tensor, self.peer) for tensor in vector.tensors]:
            work.wait(_FOR_EVER)

    def close(self) -> None:
        """Say goodbye, behind all queued messages."""
        self.send(MessageKind.closed)
        self._queue.put(None)

    def flush(self, until: float) -> None:
        """Once closed, wait until all has left, or until a moment of ``time.monotonic``."""
        self._sending.join(max(0.0, until - time.monotonic()))

    def disconnect(self) -> None:
        """End the connections, by a wait that runs out: what waits on them in the threads fails. The peer notices."""
        self._queue.put(None)
        for group in (self._out, self._into):
            disconnect_gloo(group, self.peer)

    def join(self, until: float) -> None:
        """Wait for the end of the threads, or until a moment of ``time.monotonic``."""
        for thread in (self._sending, self._receiving):
            thread.join(max(0.0, until - time.monotonic()))

    # -- threads -------------------------------------------------------------------------------------------------------
    def _send_all(self) -> None:
        header = torch.zeros(len(Header._fields), dtype=torch.float64)
        words = header.numpy()
        try:
            while (message := self._queue.get()) is not None:
                words[:] = message.note
                pieces: list[Tensor] = message.content.tensors if message.content else []
                for work in [_send(self._out, tensor, self.peer) for tensor in (header, *pieces)]:
                    work.wait(_FOR_EVER)
                if message.content and message.done:
                    message.done(message.content)
        except RuntimeError:
            return  # the receiving thread knows as well

    def _receive_all(self) -> None:
        header = torch.zeros(len(Header._fields), dtype=torch.float64)
        try:
            while not self.left:
                _receive(self._into, header, self.peer).wait(_FOR_EVER)
                kind, step, weight, copy = header.tolist()
                if kind == MessageKind.closed:
                    self.left = True
                else:
                    self._handle(self, Header(int(kind), int(step), weight, int(copy)))
                self.received += 1
        except RuntimeError as error:
            self._lose(self.peer, error)


def connect_peers(
    group: dist.ProcessGroup | None,
    handle: Callable[[PeerConnection, Header], None],
    lose: Callable[[int, RuntimeError], None],
) -> dict[int, PeerConnection]:
    """Return connections to all other workers of a group, not yet started. Collective."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    name = [secrets.token_hex(8)]  # all connections ever made keep their addresses in the one store
    dist.broadcast_object_list(name, src=0 if group is None else dist.get_global_rank(group, 0), group=group)
    store = dist.distributed_c10d._get_default_store()
    up, down = (
        dist.ProcessGroupGloo(dist.PrefixStore(f"sgp/{name[0]}/{way}", store), rank, size, group_timeout(group))
        for way in ("up", "down")
    )
    return {
        peer: PeerConnection(peer, *((up, down) if rank < peer else (down, up)), handle, lose)
        for peer in range(size)
        if peer != rank
    }


def say_goodbye(lines: dict[int, PeerConnection]) -> None:
    """Tell all peers that this worker closes, behind everything that is still to leave."""
    until = time.monotonic() + _CLOSING_SECONDS
    for line in lines.values():
        line.close()
    for line in lines.values():
        line.flush(until)


def disconnect(lines: dict[int, PeerConnection]) -> None:
    """End all connections and threads. Peers that have heard no goodbye see a worker die.

    To be done before the process ends: a thread that comes out of gloo while the interpreter goes would abort it.
    """
    until = time.monotonic() + _CLOSING_SECONDS
    for line in lines.values():
        line.disconnect()
    for line in lines.values():
        line.join(until)


def _send(group: dist.ProcessGroupGloo, tensor: Tensor, peer: int) -> dist.Work:
    work: dist.Work = group.send([tensor], peer, 0)  # type: ignore[attr-defined]
    return work


def _receive(group: dist.ProcessGroupGloo, tensor: Tensor, peer: int) -> dist.Work:
    work: dist.Work = group.recv([tensor], peer, 0)  # type: ignore[attr-defined]
    return work


class BufferPool:
    """Vectors laid out like the model, made when one is needed and none is free, and used again.

    Taken and given back by several threads; no lock, as appending to and popping from a deque are atomic.
    """

    def __init__(self, like: FlatVector) -> None:
        self._like = like
        self._free: deque[FlatVector] = deque()
        self.made = 0

    def take(self) -> FlatVector:
        """Return a vector of undefined content."""
        try:
            return self._free.popleft()
        except IndexError:
            self.made += 1
            return self._like.zeros_like()

    def give(self, vector: FlatVector) -> None:
        """Take it back."""
        self._free.append(vector)
