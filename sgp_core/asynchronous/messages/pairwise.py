"""Averaging in pairs over messages."""

from __future__ import annotations

from threading import Event as Flag
from threading import Lock
from typing import Any

import torch.distributed as dist

from sgp_core.asynchronous.messages.carrier import MessageCarrier
from sgp_core.asynchronous.messages.peer_connection import Header, MessageKind, PeerConnection
from sgp_core.asynchronous.network import Seen
from sgp_core.asynchronous.pairwise import PairwiseNetwork
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import apply_update_, average_pair_, update_and_average_
from sgp_core.topology import Topology

_PATIENCE_SECONDS = 0.2
"""Between two looks at whether a partner still lives."""


class MessagePairs(MessageCarrier, PairwiseNetwork):
    """The acting worker sends its open model to its partner, whose thread averages the two and sends the average back.

    The partner's model is locked for as long as the average takes. The acting worker's is locked until that has come
    back, so that both get the same average of one consistent state; who asks it meanwhile waits. Of such waits there
    is no circle: in a chain of them ranks ascend, all even ones before all odd ones, see :func:`adpsgd.partner`.
    """

    def __init__(self, topology: Topology, group: dist.ProcessGroup | None, params: FlatVector, **options: Any) -> None:
        self._model = params.clone()
        self._version = 0
        self._open = Lock()
        """Held by whoever changes the model or needs it to stay as it is."""
        self._replied = Flag()
        self._their_version = 0
        super().__init__(topology, group, params, **options)

    def _handle(self, line: PeerConnection, note: Header) -> None:
        if note.kind == MessageKind.request:
            theirs = self._pool.take()
            line.read(theirs)
            with self._open:
                version = self._version
                average_pair_(theirs, self._model)
                self._version += 1
            line.send(MessageKind.reply, version, content=theirs, done=self._pool.give)
        elif note.kind == MessageKind.reply:
            line.read(self._model)  # which the training thread holds, and which has left
            self._their_version = note.step
            self._replied.set()
        else:
            super()._handle(line, note)

    def _average(self, x: FlatVector, before: FlatVector, other: int | None, step: int) -> Seen:
        with self._open:
            seen = [(self.rank, self._version)]
            untouched = self._version == self._seen
            if other is None:
                update_and_average_(x, before, self._model, None, untouched=untouched)
            else:
                self._reach(other, step)
                apply_update_(x, before, self._model, untouched=untouched)
                self._replied.clear()
                self._lines[other].send(MessageKind.request, step, content=self._model)
                while not self._replied.wait(_PATIENCE_SECONDS):
                    self._reach(other, step)
                seen.append((other, self._their_version))
                x.copy_(self._model)
            self._version += 1
        return tuple(sorted(seen))

    def _own(self) -> tuple[FlatVector, int]:
        return self._model, self._version
