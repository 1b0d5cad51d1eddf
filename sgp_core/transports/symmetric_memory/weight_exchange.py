"""PushSum weights that the hosts of GPUs tell each other: a number a message, which needs no GPU."""

from __future__ import annotations

from typing import Protocol

from sgp_core.distributed.exchange import Exchange
from sgp_core.transports.shared_memory.counters import PUSHED, READ, SharedCounters


class WeightExchange(Protocol):
    """Numbers that workers tell each other, one with each exchange that has weights."""

    def tell(self, exchange: Exchange, weight: float) -> int:
        """Tell the out-peers; return the number of the exchange, which is the same on every worker."""

    def hear(self, exchange: Exchange, number: int) -> list[float]:
        """Return what the in-peers told at exchange ``number``. Once only; waits for their hosts to come so far."""


class HostWeightExchange:
    """Weights in memory that the hosts' processes share; a peer that has died is noticed while waiting.

    Args:
        board: with ``slots`` slots, used for nothing else.
        slots: more than there may be exchanges told and not heard.
    """

    def __init__(self, board: SharedCounters, slots: int) -> None:
        self._board = board
        self._told: list[Exchange | None] = [None] * slots
        self._count = 0
        self._unheard: set[int] = set()

    def tell(self, exchange: Exchange, weight: float) -> int:
        """Tell the out-peers; return the number of the exchange.

        Raises:
            RuntimeError: a peer that should have read an earlier weight is gone, or too many are unheard.
        """
        self._count += 1
        slot, before = self._count % len(self._told), self._count - len(self._told)
        earlier = self._told[slot]
        if earlier is not None:
            if before in self._unheard:
                raise RuntimeError(
                    f"{len(self._told)} exchanges with weights are under way, and there is room for no more"
                )
            self._board.wait(READ, before, earlier.out_peers, earlier)
        self._told[slot] = exchange
        self._unheard.add(self._count)
        self._board.set_sent(slot, self._count, weight)
        self._board.raise_to(PUSHED, self._count)
        return self._count

    def hear(self, exchange: Exchange, number: int) -> list[float]:
        """Return what the in-peers told.

        Raises:
            RuntimeError: one is gone.
        """
        self._board.wait(PUSHED, number, exchange.in_peers, exchange)
        weights = [self._board.sent(peer, number)[1] for peer in exchange.in_peers]
        self._unheard.discard(number)
        self._board.raise_to(READ, min(self._unheard, default=self._count + 1) - 1)
        return weights
