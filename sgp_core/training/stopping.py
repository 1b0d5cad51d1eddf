"""Stopping all workers at the same step, on the wish of any of them."""

from __future__ import annotations

from collections.abc import Callable

from sgp_core.training.peers import Peers

_SECONDS_BETWEEN = 0.5
_MOST_STEPS_BETWEEN = 100


class Preempted(Exception):
    """Training stopped early because it was asked to; every worker has saved its state at ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped on request after step {step}; everything is saved")
        self.step = step


class StopAgreement:
    """Asks ``wish`` on every worker about twice a second, at steps that all workers compute alike.

    The pace follows the mean step time, exchanged along with the wishes: one small message per question.
    """

    def __init__(self, peers: Peers, wish: Callable[[], bool] | None) -> None:
        self._peers = peers
        self._wish = wish
        self._next_step = 0

    def reached(self, step: int, step_seconds: float) -> bool:
        """Return whether to stop now, the same on every worker; ``step_seconds`` is how long a step takes here."""
        if self._wish is None or step < self._next_step:
            return False
        wishes, seconds = self._peers.sum([float(self._wish()), step_seconds / self._peers.world_size])
        pace = int(_SECONDS_BETWEEN / seconds) if seconds > 0 else 1
        self._next_step = step + min(max(pace, 1), _MOST_STEPS_BETWEEN)
        return wishes > 0
