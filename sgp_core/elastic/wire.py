"""What travels on a link between two members: frames, and the handshake by which they admit each other."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import struct
from enum import IntEnum
from typing import Any, NamedTuple

_HEADER = struct.Struct("!Bqqddq")
HEADER_BYTES = _HEADER.size
_HELLO = struct.Struct("!32s32sqq")
"""A nonce, a proof, and the rank and the life of who speaks."""
_MOST_BYTES = 1 << 46
"""No frame is longer: the length of one that is cannot have been sent by a member."""


class Member(NamedTuple):
    """One worker process. A replacement has the rank of the worker it replaces, and another life."""

    rank: int
    life: int

    def __str__(self) -> str:
        return f"rank {self.rank}" if self.life == 1 else f"rank {self.rank} (its process {self.life})"


class FrameKind(IntEnum):
    """What a frame says."""

    ping = 1
    """The sender lives, and trains if ``a`` is 1."""
    vector = 2
    """A share of the sender's model, of step ``a``, follows; its PushSum weight is ``ratio`` times ``weight``."""
    part = 3
    """A part of a vector that all members sum, of sum ``a`` and turn ``b``, follows."""
    control = 4
    """A JSON object follows."""
    state = 5
    """A member's state follows, for one that joins at step ``a``."""
    goodbye = 6
    """The sender has ended properly, or, with ``a`` = 1, regards the receiver as dead; nothing follows."""


class Frame(NamedTuple):
    """The header of what travels."""

    kind: int
    a: int = 0
    b: int = 0
    weight: float = 0.0
    ratio: float = 1.0
    length: int = 0

    def pack(self) -> bytes:
        """Return the header as bytes."""
        return _HEADER.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Frame:
        """Return the header that :meth:`pack` made.

        Raises:
            ValueError: no member has sent this.
        """
        frame = cls(*_HEADER.unpack(data))
        if frame.kind not in FrameKind.__members__.values() or not 0 <= frame.length < _MOST_BYTES:
            raise ValueError(f"a frame of kind {frame.kind} and {frame.length} bytes")
        return frame


def encode(message: dict[str, Any]) -> bytes:
    """Return a JSON object as bytes."""
    return json.dumps(message).encode()


def decode(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Return the JSON object that :func:`encode` made."""
    message: dict[str, Any] = json.loads(bytes(data))
    return message


class Handshake:
    """Both ends of a new connection prove that they know the run's secret, and say who they are.

    What travels afterwards is neither encrypted nor signed: the network is trusted not to change it.

    Args:
        secret: shared by the members of a run.
        me: this member.
    """

    def __init__(self, secret: bytes, me: Member) -> None:
        self._secret = secret
        self._me = me

    def call(self, connection: socket.socket, whom: Member) -> None:
        """Open a connection that this member has begun.

        Raises:
            OSError: no member answers there, or another than ``whom``.
        """
        challenge = _read(connection, 32)
        nonce = secrets.token_bytes(32)
        connection.sendall(_HELLO.pack(nonce, self._proof(challenge, self._me), *self._me))
        _, proof, rank, life = _HELLO.unpack(_read(connection, _HELLO.size))
        if Member(rank, life) != whom or not hmac.compare_digest(proof, self._proof(nonce, whom)):
            raise OSError("something else answers in its place")

    def answer(self, connection: socket.socket) -> Member | None:
        """Admit who has connected; None if that is no member of this run.

        Raises:
            OSError: it does not answer.
        """
        challenge = secrets.token_bytes(32)
        connection.sendall(challenge)
        nonce, proof, rank, life = _HELLO.unpack(_read(connection, _HELLO.size))
        caller = Member(rank, life)
        if not hmac.compare_digest(proof, self._proof(challenge, caller)):
            return None
        connection.sendall(_HELLO.pack(b"", self._proof(nonce, self._me), *self._me))
        return caller

    def _proof(self, nonce: bytes, who: Member) -> bytes:
        return hmac.new(self._secret, nonce + f"{who.rank}/{who.life}".encode(), hashlib.sha256).digest()


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise OSError("the connection was closed")
        data += piece
    return data
