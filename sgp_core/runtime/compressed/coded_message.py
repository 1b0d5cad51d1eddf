"""Coded messages of one step on their way, and the memory they leave from and arrive in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.point_to_point import AT_ONCE_NS
from sgp_core.runtime.compressed.edge_replicas import EdgeReplicas, EdgeWeights
from sgp_core.runtime.compressed.payload import Payload
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.timeline import Marks, now
from sgp_core.transports.base import MessageContent


class CodedMessage:
    """The messages of one step, sent and being received; without :meth:`start`, messages that have arrived."""

    def __init__(
        self,
        replicas: EdgeReplicas,
        part: EdgeWeights,
        exchange: Exchange,
        receive_buffers: Mapping[int, Payload],
        *,
        weighed: bool,
    ) -> None:
        self.part = part
        self._replicas = replicas
        self._exchange = exchange
        self._receive_buffers = receive_buffers
        self._weighed = weighed
        self._send_buffers: Mapping[int, Payload] = {}
        self._arrivals: Sequence[Any] = ()
        self._departures: Sequence[Any] = ()
        self._posted = 0

    def start(
        self,
        send_buffers: Mapping[int, Payload],
        arrivals: Sequence[Any],
        departures: Sequence[Any],
        marks: Marks | None,
    ) -> None:
        """Take the buffers that are being sent, and what to wait for."""
        self._send_buffers, self._arrivals, self._departures = send_buffers, arrivals, departures
        self._posted = 0 if marks is None else marks.posted

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Wait, add what the in-peers have given to ``x``, and give the memory back; return their weights. Once only.

        What was sent has left by then as well: memory is bounded only if this is waited for.
        """
        self._arrive(marks)
        weight = self._replicas.take(x, self.part, self._receive_buffers, weighed=self._weighed)
        self._put_back()
        return weight

    def exchange(self, x: FlatVector, weight: float | None, marks: Marks | None = None) -> float:
        """Do so, and take what this worker gives off ``x``, of which nothing was taken when it was coded. Once only."""
        self._arrive(marks)
        arrived = self._replicas.exchange(x, self.part, weight, self._receive_buffers)
        self._put_back()
        return arrived

    def _put_back(self) -> None:
        self._replicas.payloads.put_back(self._receive_buffers.values())
        self.settle()

    def content(self) -> MessageContent:
        """Wait and return copies of the in-peers' payloads, in the order of ``in_peers``."""
        self._arrive()
        return [([payload.bytes().clone()], float(payload.weight)) for payload in self._receive_buffers.values()]

    def settle(self) -> None:
        """Return once everything has arrived and left."""
        self._arrive()
        self._wait(self._departures)
        self._replicas.payloads.put_back(self._send_buffers.values())
        self._departures, self._send_buffers = (), {}

    def discard(self) -> bool:
        """Give it up, in place of :meth:`add_to`; return whether everything had arrived, so that nothing is left."""
        if self._arrivals or self._departures:
            return False
        self._replicas.payloads.put_back(self._receive_buffers.values())
        return True

    def _arrive(self, marks: Marks | None = None) -> None:
        begin = now()
        for peer, work in zip(self._receive_buffers, self._arrivals, strict=False):
            looked = now()
            self._wait([work])
            if marks is not None:
                marks.posted, marks.arrived[peer] = self._posted, now()
                if marks.arrived[peer] - looked <= AT_ONCE_NS:
                    marks.hidden.add(peer)
        self._wait(self._arrivals[len(self._receive_buffers) :])
        self._arrivals = ()
        if marks is not None:
            marks.waited += now() - begin

    def _wait(self, works: Iterable[Any]) -> None:
        try:
            for work in works:
                work.wait()
        except RuntimeError as error:
            raise self._exchange.lost(error) from error
