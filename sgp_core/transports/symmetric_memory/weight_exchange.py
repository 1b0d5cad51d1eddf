"""PushSum weights that the processes of GPUs exchange through host memory: one number a message."""

from __future__ import annotations

from typing import Protocol

from sgp_core.distributed.counters import PUSHED, READ, SharedCounters
from sgp_core.distributed.exchange import Exchange


class WeightExchange(Protocol):
    """Exchanges one number with each vector exchange that has weights."""

    def send(self, exchange: Exchange, weight: float) -> int:
        """Send the weight to the out-peers; return the number of the exchange, the same on every worker."""

    def receive(self, exchange: Exchange, number: int) -> list[float]:
        """Wait for the weights that the in-peers sent at exchange ``number``; return them. Call it once."""

    def interrupt(self, why: str) -> None:
        """Let waits fail; for another thread to call."""


class HostWeightExchange:
    """Exchanges weights in memory that the workers' processes share; who waits for a peer notices if it dies.

    Args:
        counters: with ``slots`` slots, used for nothing else.
        slots: more than the number of exchanges that are sent and not received at any time.
    """

    def __init__(self, counters: SharedCounters, slots: int) -> None:
        self._counters = counters
        self._sent: list[Exchange | None] = [None] * slots
        self._count = 0
        self._unread: set[int] = set()

    def send(self, exchange: Exchange, weight: float) -> int:
        """Send the weight to the out-peers; return the number of the exchange.

        Raises:
            PeerLost: a peer that should have received an earlier weight is gone.
            RuntimeError: more exchanges are under way than there are slots.
        """
        self._count += 1
        slot, before = self._count % len(self._sent), self._count - len(self._sent)
        earlier = self._sent[slot]
        if earlier is not None:
            if before in self._unread:
                raise RuntimeError(
                    f"{len(self._sent)} exchanges with weights are under way, and there are no slots for more"
                )
            self._counters.wait(READ, before, earlier.out_peers, earlier)
        self._sent[slot] = exchange
        self._unread.add(self._count)
        self._counters.announce_message(slot, self._count, weight)
        self._counters.advance(PUSHED, self._count)
        return self._count

    def receive(self, exchange: Exchange, number: int) -> list[float]:
        """Wait for the weights of the in-peers; return them.

        Raises:
            PeerLost: an in-peer is gone.
        """
        self._counters.wait(PUSHED, number, exchange.in_peers, exchange)
        weights = [self._counters.message_of(peer, number)[1] for peer in exchange.in_peers]
        self._unread.discard(number)
        self._counters.advance(READ, min(self._unread, default=self._count + 1) - 1)
        return weights

    def interrupt(self, why: str) -> None:
        """Let waits fail; for another thread to call."""
        self._counters.interrupt(why)
