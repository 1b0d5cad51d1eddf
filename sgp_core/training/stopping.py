"""Stopping all workers together when one of them is asked to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sgp_core.training.gossiping import GossipingWorkers
from sgp_core.training.peers import Peers

_SECONDS_BETWEEN = 0.5
_MOST_STEPS_BETWEEN = 100


class Preempted(Exception):
    """Training stopped early because it was asked to; every worker has saved its state at ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped on request after step {step}; everything is saved")
        self.step = step


class Stop(Protocol):
    """How the workers of a run agree to stop."""

    def should_stop(self, step: int, step_seconds: float) -> bool:
        """Return whether to stop before the next step.

        Args:
            step: steps completed.
            step_seconds: how long a step takes on this worker.
        """

    def should_stop_at_collective(self) -> bool:
        """Return whether to stop instead of the evaluation or checkpoint that is due; the same on every worker."""

    next_step: int
    """The step before which workers agree next; set it where this one joins others."""


def build_stop(gossip: GossipingWorkers, peers: Peers, asks: Callable[[], bool] | None) -> Stop:
    """Return the way to stop that suits the algorithm.

    Args:
        asks: returns whether this worker has been asked to stop; None: training never stops early.
    """
    return StopCall(gossip, peers, asks) if gossip.asynchronous else StopAgreement(peers, asks)


class StopAgreement:
    """For synchronous algorithms: all workers stop after the same step.

    Workers exchange whether they have been asked about twice a second, at steps that all of them compute alike from
    the mean step time: one small collective each time.
    """

    def __init__(self, peers: Peers, asks: Callable[[], bool] | None) -> None:
        self._peers = peers
        self._asks = asks
        self.next_step = 0

    def should_stop(self, step: int, step_seconds: float) -> bool:
        """Return whether to stop now; the same on every worker."""
        if self._asks is None or step < self.next_step:
            return False
        asked, seconds = self._peers.sum([float(self._asks()), step_seconds / self._peers.processes])
        steps = int(_SECONDS_BETWEEN / seconds) if seconds > 0 else 1
        self.next_step = step + min(max(steps, 1), _MOST_STEPS_BETWEEN)
        return asked > 0

    def should_stop_at_collective(self) -> bool:
        """Return False: synchronous workers stop before a step or not at all."""
        return False


class StopCall:
    """For asynchronous algorithms: each worker stops after the step it has reached.

    A worker that has been asked requests a meeting, and every worker looks for requests before each step. Some workers
    may have started an evaluation or a checkpoint meanwhile. So before any such collective all workers exchange whether
    a meeting has been requested; if one knows of a request, all stop.
    """

    def __init__(self, gossip: GossipingWorkers, peers: Peers, asks: Callable[[], bool] | None) -> None:
        self._gossip = gossip
        self._peers = peers
        self._asks = asks
        self.next_step = 0

    def should_stop(self, step: int, step_seconds: float) -> bool:
        """Return whether to stop now. Communicates only after a request."""
        if self._asks is not None and self._asks():
            self._gossip.request_meeting()
        return self._gossip.meeting_requested and self.should_stop_at_collective()

    def should_stop_at_collective(self) -> bool:
        """Return whether any worker knows of a request. Collective."""
        return self._asks is not None and self._peers.sum([float(self._gossip.meeting_requested)])[0] > 0
