"""Open models over messages."""

from __future__ import annotations

from threading import Event as Flag
from threading import Lock

import torch.distributed as dist

from sgp_core.asynchronous.carrier import Seen
from sgp_core.asynchronous.messages.carrier import MessageCarrier
from sgp_core.asynchronous.messages.peer_connection import Header, MessageKind, PeerConnection
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import apply_update_, average_pair_, update_and_average_

_LOOK_SECONDS = 0.2
"""Pause between two looks at whether a partner still lives."""


class MessageOpenModels(MessageCarrier):
    """The acting worker sends its open model to its partner, whose thread averages the two and sends the average back.

    The partner's model is locked for as long as the average takes. The acting worker's is locked until that has come
    back, so that both get the same average of one consistent state; who asks it meanwhile waits. Of such waits there
    is no circle: in a chain of them ranks ascend, all even ones before all odd ones, see :func:`adpsgd.partner`.
    """

    def __init__(self, group: dist.ProcessGroup | None, params: FlatVector) -> None:
        self._model = params.clone()
        self._version = 0
        self._lock = Lock()
        """Held while the model is changed, or must not change."""
        self._replied = Flag()
        self._their_version = 0
        super().__init__(group, params)  # last: it starts the threads that use these

    def average(self, x: FlatVector, before: FlatVector, partner: int | None, step: int, version: int) -> Seen:
        """Add ``x - before`` to this worker's open model, average it with the partner's, and set ``x`` to it."""
        with self._lock:
            seen = [(self.rank, self._version)]
            untouched = self._version == version
            if partner is None:
                update_and_average_(x, before, self._model, None, untouched=untouched)
            else:
                self.check_alive(partner, step)
                apply_update_(x, before, self._model, untouched=untouched)
                self._replied.clear()
                self._connections[partner].send(MessageKind.request, step, content=self._model)
                while not self._replied.wait(_LOOK_SECONDS):
                    self.check_alive(partner, step)
                seen.append((partner, self._their_version))
                x.copy_(self._model)
            self._version += 1
        return tuple(sorted(seen))

    def own(self) -> tuple[FlatVector, int]:
        """Return this worker's open model and its version."""
        return self._model, self._version

    def _handle(self, connection: PeerConnection, header: Header) -> None:
        if header.kind == MessageKind.request:
            theirs = self._pool.take()
            connection.read(theirs)
            with self._lock:
                version = self._version
                average_pair_(theirs, self._model)
                self._version += 1
            connection.send(MessageKind.reply, version, content=theirs, done=self._pool.give)
        elif header.kind == MessageKind.reply:
            connection.read(self._model)  # which the training thread holds, and which has left
            self._their_version = header.step
            self._replied.set()
        else:
            super()._handle(connection, header)
