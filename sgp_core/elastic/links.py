"""A link to every other member: one connection each, and one thread that sends and receives on all of them.

A member that is slow delays nothing that others send. One whose connection breaks, or from which nothing has come for
``patience_s`` (a ping comes twice a second), is dead to this member for good: the link is closed, and it is told so.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from sgp_core.elastic.wire import HEADER_BYTES, Frame, FrameKind, Handshake, Member
from sgp_core.errors import PeerLost

PING_S = 0.5
_HANDSHAKE_S = 2.0
_START_S = 30.0
"""How long a member may be silent that does not train yet: imports can keep all other threads from running."""
_PIECE = 4 << 20

Place = Callable[[Member, Frame], Sequence[memoryview] | None]
"""Returns the memory that what follows a header is to be written to; None for memory of its own."""
Deliver = Callable[[Member, Frame, bytearray | None], None]
"""Takes a frame that has arrived, in the thread of the links."""


class Sending:
    """A frame on its way. ``left`` is set, under the lock of the links, once the whole frame has been handed over."""

    __slots__ = ("left", "pieces")

    def __init__(self, pieces: Iterable[memoryview]) -> None:
        self.pieces = deque(piece for piece in pieces if len(piece))
        self.left = False


class _Link:
    """One connection, and how far what travels on it has come."""

    def __init__(self, member: Member, connection: socket.socket) -> None:
        self.member = member
        self.socket = connection
        self.queue: deque[Sending] = deque()
        self.heard = self.said = time.monotonic()
        self.trains = False
        self.header = memoryview(bytearray(HEADER_BYTES))
        self.frame: Frame | None = None
        self.body: bytearray | None = None
        self.into: deque[memoryview] = deque([self.header])


class Links:
    """The links of one member.

    Args:
        me: this member.
        host: address to listen on.
        secret: shared by all members of the run.
        patience_s: seconds of silence after which a member is dead.
        place: where content that arrives is to be written.
        deliver: takes each frame once it has arrived.
        lose: called, in the thread of the links, with a member that has died and how that was noticed.

    Attributes:
        address: host and port at which others reach this member.
        changed: the condition that is notified whenever something has arrived, left, or died.
        dead: the members that are dead, and how that was noticed.
        ended: the members that have said goodbye.
        trains: whether this member trains: before it does, imports may keep it from answering for long.
    """

    def __init__(
        self,
        me: Member,
        host: str,
        secret: bytes,
        patience_s: float,
        place: Place,
        deliver: Deliver,
        lose: Callable[[Member, str], None],
    ) -> None:
        self.me = me
        self.patience_s = patience_s
        self.changed = threading.Condition()
        self.dead: dict[Member, str] = {}
        self.ended: set[Member] = set()
        self.trains = False
        self._place, self._deliver, self._lose = place, deliver, lose
        self._handshake = Handshake(secret, me)
        self._links: dict[Member, _Link] = {}
        self._family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
        self._server = socket.create_server((host, 0), family=self._family, backlog=256)
        self.address: tuple[str, int] = (host, self._server.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._closing = self._closed = False
        self._looked = time.monotonic()
        self._threads = [
            threading.Thread(target=run, name=f"sgp-{name}", daemon=True)
            for name, run in (("links", self._serve), ("door", self._accept))
        ]
        for thread in self._threads:
            thread.start()

    # -- members -------------------------------------------------------------------------------------------------------
    def connect(self, member: Member, address: tuple[str, int]) -> None:
        """Open the link to a member that listens at ``address``. If it cannot be reached it is dead."""
        try:
            connection = socket.create_connection(address, timeout=_HANDSHAKE_S)
            connection.settimeout(_HANDSHAKE_S)
            self._handshake.call(connection, member)
        except OSError as error:
            self.bury(member, f"it cannot be reached: {error}")
            return
        self._open(member, connection)

    def is_linked(self, member: Member) -> bool:
        """Whether there is a link to ``member``."""
        return member in self._links

    def expect(self, member: Member) -> None:
        """Regard a member as one that trains from now on: it is dead once it is silent for ``patience_s``."""
        with self.changed:
            if member in self._links:
                self._links[member].trains = True

    def is_alive(self, member: Member) -> bool:
        """Whether ``member`` is neither dead nor gone, as far as this member knows."""
        return member not in self.dead and member not in self.ended

    def bury(self, member: Member, reason: str, *, say: bool = True) -> None:
        """Regard a member as dead from now on, and close its link."""
        with self.changed:
            if member in self.dead or member in self.ended or self._closed:
                return
            self.dead[member] = reason
            link = self._links.pop(member, None)
            if link is not None:
                with suppress(OSError, KeyError, ValueError):
                    self._selector.unregister(link.socket)
                if say:
                    with suppress(OSError):  # for one that was stopped, and goes on
                        link.socket.send(Frame(FrameKind.goodbye, 1).pack())
                link.socket.close()
            self.changed.notify_all()
        self._lose(member, reason)

    # -- what travels --------------------------------------------------------------------------------------------------
    def send(self, member: Member, frame: Frame, content: Sequence[memoryview] = ()) -> Sending | None:
        """Begin to send; None if there is no link to ``member`` any more. ``content`` must not change until it left."""
        with self.changed:
            link = self._links.get(member)
            if link is None:
                return None
            header = frame._replace(length=sum(map(len, content)))
            sending = Sending([memoryview(header.pack()), *content])
            link.queue.append(sending)
            self._selector.modify(link.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, link)
        self._ring()
        return sending

    def wait(self, until: Callable[[], Any], timeout: float | None = None) -> bool:
        """Wait until a condition holds, which is looked at whenever something has happened."""
        with self.changed:
            return bool(self.changed.wait_for(until, timeout))

    def close(self) -> None:
        """Say goodbye to all members, and end."""
        self._closing = True
        for member in list(self._links):
            self.send(member, Frame(FrameKind.goodbye))
        self.wait(lambda: not self._links, self.patience_s)  # they close their ends
        self.drop()

    def drop(self) -> None:
        """End without a word: to others, this member dies."""
        with self.changed:
            if self._closed:
                return
            self._closed = True
            self.changed.notify_all()
        self._ring()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_HANDSHAKE_S + 1)

    # -- the threads ---------------------------------------------------------------------------------------------------
    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            try:
                connection.settimeout(_HANDSHAKE_S)
                caller = self._handshake.answer(connection)
            except OSError:
                caller = None
            if caller is None or caller in self.dead:
                connection.close()
            else:
                self._open(caller, connection)

    def _open(self, member: Member, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        with self.changed:
            if member in self._links or self._closed:
                connection.close()
                return
            link = self._links[member] = _Link(member, connection)
            self._selector.register(connection, selectors.EVENT_READ, link)
            self.changed.notify_all()
        self._ring()

    def _ring(self) -> None:
        with suppress(OSError):
            self._wake.send(b"!")

    def _serve(self) -> None:
        while not self._closed:
            for key, mask in self._selector.select(PING_S / 2):
                link: _Link | None = key.data
                if link is None:
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                    continue
                try:
                    if mask & selectors.EVENT_READ:
                        self._receive(link)
                    if mask & selectors.EVENT_WRITE and link.member in self._links:
                        self._send(link)
                except (OSError, ValueError) as error:
                    if self._closing:
                        self._end(link, expelled=False)
                        continue
                    self.bury(link.member, f"its connection broke: {error}", say=False)
            self._look()
        with self.changed:
            for link in self._links.values():
                link.socket.close()
            self._links.clear()
            self._selector.close()
            self._wake.close()
            self._woken.close()

    def _look(self) -> None:
        """Ping members that have heard nothing for a while, and bury those from which nothing has come."""
        now = time.monotonic()
        late = now - self._looked > self.patience_s / 2  # this process itself was stopped
        if now - self._looked < PING_S / 4:
            return
        self._looked = now
        for link in list(self._links.values()):
            if late:
                link.heard = now
            elif now - link.heard > (patience := self.patience_s if link.trains else _START_S):
                self.bury(link.member, f"nothing has come from it for {patience:g} s")
            elif now - link.said > PING_S and not link.queue:
                self.send(link.member, Frame(FrameKind.ping, int(self.trains)))

    def _send(self, link: _Link) -> None:
        while link.queue:
            sending = link.queue[0]
            while sending.pieces:
                piece = sending.pieces[0]
                try:
                    count = link.socket.send(piece[:_PIECE])
                except BlockingIOError:
                    return
                link.said = time.monotonic()
                if count < len(piece):
                    sending.pieces[0] = piece[count:]
                else:
                    sending.pieces.popleft()
            with self.changed:
                link.queue.popleft()
                sending.left = True
                self.changed.notify_all()
        with self.changed:
            if not link.queue and link.member in self._links:
                self._selector.modify(link.socket, selectors.EVENT_READ, link)

    def _receive(self, link: _Link) -> None:
        while link.member in self._links:
            piece = link.into[0]
            try:
                count = link.socket.recv_into(piece[:_PIECE])
            except BlockingIOError:
                return
            if count == 0:
                raise OSError("it was closed")
            link.heard = time.monotonic()
            if count < len(piece):
                link.into[0] = piece[count:]
                continue
            link.into.popleft()
            if not link.into:
                self._arrive(link)

    def _arrive(self, link: _Link) -> None:
        """Take the header, or what followed it."""
        if link.frame is None:
            frame = link.frame = Frame.unpack(link.header)
            if frame.length:
                places = self._place(link.member, frame)
                if places is None:
                    link.body = bytearray(frame.length)
                    places = [memoryview(link.body)]
                elif sum(map(len, places)) != frame.length:
                    raise ValueError(f"{frame.length} bytes of a vector that has {sum(map(len, places))}")
                link.into.extend(place for place in places if len(place))
                return
        frame, body = link.frame, link.body
        link.trains = link.trains or frame.kind == FrameKind.vector or (frame.kind == FrameKind.ping and frame.a == 1)
        link.frame, link.body = None, None
        link.into.append(link.header)
        if frame.kind == FrameKind.goodbye:
            self._end(link, expelled=frame.a == 1)
        elif frame.kind != FrameKind.ping:
            self._deliver(link.member, frame, body)

    def _end(self, link: _Link, *, expelled: bool) -> None:
        if expelled:
            self.bury(link.member, "it regards this member as dead", say=False)
            return
        with self.changed:
            self.ended.add(link.member)
            if self._links.pop(link.member, None) is not None:
                self._selector.unregister(link.socket)
                link.socket.close()
            self.changed.notify_all()


def lost(me: Member, member: Member, reason: str, step: int | None = None) -> PeerLost:
    """Return the error to raise where a dead member is needed."""
    return PeerLost(f"{me} lost {member}: {reason}", rank=me.rank, peers=(member.rank,), step=step)
