"""Stopping all workers together, on the wish of any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sgp_core.gossip import Gossip
from sgp_core.training.peers import Peers

_SECONDS_BETWEEN = 0.5
_MOST_STEPS_BETWEEN = 100


class Preempted(Exception):
    """Training stopped early because it was asked to; every worker has saved its state at ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped on request after step {step}; everything is saved")
        self.step = step


class Stop(Protocol):
    """How the workers of a run stop together."""

    def reached(self, step: int, step_seconds: float) -> bool:
        """Return whether to stop now, before another step, the same on every worker."""

    def instead_of_meeting(self) -> bool:
        """Return whether to stop now, the same on every worker, instead of an evaluation or a checkpoint."""


def stop_of(gossip: Gossip, peers: Peers, wish: Callable[[], bool] | None) -> Stop:
    """Return the way to stop that suits the algorithm."""
    return StopCall(gossip, peers, wish) if gossip.asynchronous else StopAgreement(peers, wish)


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

    def instead_of_meeting(self) -> bool:
        """Workers that march together stop before a step or not at all."""
        return False


class StopCall:
    """For workers that wait for nobody: who wishes to stop calls the others, who look for calls at every step.

    All come as soon as they have done the step they are at, so each stops at a step of its own. Some may have set out
    for an evaluation or a checkpoint meanwhile; therefore whoever comes to meet, for whatever reason, first says
    whether it was called, and if one was, all stop.
    """

    def __init__(self, gossip: Gossip, peers: Peers, wish: Callable[[], bool] | None) -> None:
        self._gossip = gossip
        self._peers = peers
        self._wish = wish

    def reached(self, step: int, step_seconds: float) -> bool:
        """Return whether to stop now; without a call nobody is asked and nobody waits."""
        if self._wish is not None and self._wish():
            self._gossip.request_meeting()
        return self._gossip.meeting_requested and self.instead_of_meeting()

    def instead_of_meeting(self) -> bool:
        """Return whether to stop instead of what this worker has come for; all workers come."""
        return self._wish is not None and self._peers.sum([float(self._gossip.meeting_requested)])[0] > 0
