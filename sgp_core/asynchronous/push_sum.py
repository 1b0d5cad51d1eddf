"""PushSum with mailboxes, whatever carries the shares."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any

from sgp_core.asynchronous.events import Event
from sgp_core.asynchronous.network import LOOK_SECONDS, AsynchronousNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar


class PushSumNetwork(AsynchronousNetwork):
    """Shares are left with the receiver, who adds them when it next looks. See :class:`AsynchronousSGP`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._sent: list[int] = []  # at the latest push
        super().__init__(*arguments, **options)

    def push(self, x: FlatVector, step: int, weight: Scalar, *, hold: bool = False) -> Scalar:
        """Leave shares with the out-peers of ``step``; keep the rest in place.

        A peer that has not collected the last share, or stands still until all meet, gets none.

        Raises:
            RuntimeError: an out-peer is gone.
        """
        with self._timed("push", step, x):
            edges, weight = self.topology.edges(step), float(weight)
            kept = edges.own_weight[self.rank]
            self._sent.clear()
            for peer, share in zip(edges.out_peers[self.rank], edges.out_weights[self.rank], strict=True):
                self._reach(peer, step)
                if self._accepts(peer) and not hold:
                    self._put(peer, step, x, share, weight)
                    self._sent.append(peer)
                else:
                    kept += share
            self._went_on(step + 1)
            if kept != 1.0:
                x.mul_(kept)
            self.bytes_sent += len(self._sent) * (x.nbytes + 8)
            return kept * weight

    def collect(self, x: FlatVector, step: int, weight: Scalar, max_staleness: int | None) -> Scalar:
        """Add what lies in the mailbox; with ``max_staleness`` first wait for in-peers that are too far behind.

        Raises:
            RuntimeError: an in-peer that is waited for is gone.
        """
        with self._timed("pull", step, x):
            if max_staleness is not None:
                self._tell(step)
                self._wait_for(step - max_staleness, step)
            arrived, messages = self._take(x, wait=max_staleness is not None)
            for _, sent_at, seconds in messages:
                self.staleness.add(step - sent_at, seconds)
        if self.events is not None:
            seen = tuple((sender, sent_at) for sender, sent_at, _ in messages)
            self.events.append(Event(self.rank, step, tuple(self._sent), seen))
        return float(weight) + arrived

    def _wait_for(self, past: int, step: int) -> None:
        if past < 0:
            return
        for peer in self.topology.in_peers(self.rank, past):
            while self._steps_of(peer) <= past and not self.called:
                self._reach(peer, step)
                time.sleep(LOOK_SECONDS)

    def _tell(self, step: int) -> None:
        """Let out-peers know that ``step`` has been pushed, if they got nothing and cannot see it."""

    @abstractmethod
    def _accepts(self, peer: int) -> bool:
        """Whether ``peer`` has collected the last share, and does not stand still."""

    @abstractmethod
    def _put(self, peer: int, step: int, x: FlatVector, share: float, weight: float) -> None:
        """Leave ``share * x`` and ``share * weight`` with ``peer``."""

    @abstractmethod
    def _take(self, x: FlatVector, *, wait: bool) -> tuple[float, list[tuple[int, int, float]]]:
        """Add what lies here to ``x``; return its weight, and of each message sender, step, and age in seconds.

        Without ``wait``, what somebody is writing to at the moment stays.
        """

    @abstractmethod
    def _steps_of(self, peer: int) -> int:
        """Return after how many of its steps an in-peer is known to have pushed."""
