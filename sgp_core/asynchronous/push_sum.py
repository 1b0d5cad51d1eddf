"""PushSum with mailboxes, over any carrier."""

from __future__ import annotations

import time

import torch.distributed as dist

from sgp_core.asynchronous.carrier import LOOK_SECONDS, Mailboxes, Seen
from sgp_core.asynchronous.network import AsynchronousNetwork
from sgp_core.runtime.events import Event
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology


class PushSumNetwork(AsynchronousNetwork):
    """Shares are left with the receiver, who adds them when it next looks. See :class:`AsynchronousSGP`.

    Args:
        mailboxes: carry the shares. Other arguments as of :class:`AsynchronousNetwork`.
    """

    def __init__(
        self,
        topology: Topology,
        group: dist.ProcessGroup | None,
        params: FlatVector,
        mailboxes: Mailboxes,
        *,
        record_events: bool = False,
    ) -> None:
        super().__init__(topology, group, params, mailboxes, record_events=record_events)
        self._mailboxes = mailboxes
        self._sent: list[int] = []  # at the latest push
        self.restart(0)

    def push(self, x: FlatVector, step: int, weight: Scalar, *, hold: bool = False) -> Scalar:
        """Leave shares with the out-peers of ``step``; keep the rest in place.

        A peer that has not collected the last share, or waits in a meeting, gets none.

        Raises:
            PeerLost: an out-peer is gone.
        """
        with self._timed("push", step, x):
            edges, weight = self.topology.edges(step), float(weight)
            kept = edges.own_weight[self.rank]
            self._sent.clear()
            for peer, share in zip(edges.out_peers[self.rank], edges.out_weights[self.rank], strict=True):
                self._mailboxes.check_alive(peer, step)
                if self._mailboxes.accepts(peer) and not hold:
                    self._mailboxes.put(peer, step, x, share, weight)
                    self._sent.append(peer)
                else:
                    kept += share
            self._complete(step + 1)
            if kept != 1.0:
                x.mul_(kept)
            self.bytes_sent += (len(self._sent) + self._mailboxes.resend(step)) * (x.nbytes + 8)
            return kept * weight

    def collect(self, x: FlatVector, step: int, weight: Scalar, max_staleness: int | None) -> Scalar:
        """Add what lies in the mailbox; with ``max_staleness`` first wait for in-peers that are too far behind.

        Raises:
            PeerLost: an in-peer that is waited for is gone.
        """
        with self._timed("pull", step, x):
            if max_staleness is not None:
                out_peers = self.topology.out_peers(self.rank, step)
                self._mailboxes.announce(step, [peer for peer in out_peers if peer not in self._sent])
                self._wait_for(step - max_staleness, step)
            arrived, seen = self._mailboxes.take(x, wait=max_staleness is not None)
            for _, sent_at in seen:
                self.staleness.add(step - sent_at)
        if self.events is not None:
            self.events.append(Event(self.rank, step, tuple(self._sent), seen))
        return float(weight) + arrived

    def _wait_for(self, past: int, step: int) -> None:
        if past < 0:
            return
        for peer in self.topology.in_peers(self.rank, past):
            while self._mailboxes.steps_of(peer) <= past and not self.meeting_requested:
                self._mailboxes.check_alive(peer, step)
                time.sleep(LOOK_SECONDS)

    def _deliver(self, x: FlatVector, weight: float) -> tuple[Seen, float]:
        arrived, seen = self._mailboxes.take_assembled(x)
        return seen, weight + arrived

    def _reset(self) -> None:
        self._mailboxes.take_assembled(self._scratch)
