"""The virtual clock: when each worker would be done, on a given network, at a given speed of computation."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgp_core.clock.computation import ComputationModel
from sgp_core.clock.in_step import InStep
from sgp_core.clock.network import NetworkModel
from sgp_core.clock.traffic import Traffic
from sgp_core.clock.turns import Faults, InTurn, Turn
from sgp_core.clock.wiring import Wiring
from sgp_core.validation import require


class VirtualClock:
    """Says when workers would be done with their steps. Nothing in it is decided by chance but by ``seed``.

    Args:
        network: the links; None: messages take no time.
        computation: how long workers compute.
        traffic: what the rule sends.
        workers: how many there are.
        seed: of the computation's draws.
        link_faults: what happens to messages of asynchronous workers; None: nothing.

    Raises:
        ConfigurationError: the traffic is that of another number of workers, or the network does not fit it.
    """

    def __init__(
        self,
        network: NetworkModel | None,
        computation: ComputationModel,
        traffic: Traffic,
        workers: int,
        seed: int = 0,
        *,
        link_faults: Faults | None = None,
    ) -> None:
        require(traffic.workers == workers, "the number of workers", f"{traffic.workers}, as of the topology", workers)
        self.wiring = Wiring(NetworkModel() if network is None else network, workers)
        self.now = 0.0
        """The latest time given out, s."""
        self._in_step = self._in_turn = None
        if traffic.one_sided is None:
            self._in_step = InStep(self.wiring, computation, traffic, seed)
        else:
            self._in_turn = InTurn(self.wiring, computation, traffic, seed, link_faults)

    @property
    def asynchronous(self) -> bool:
        """Whether workers never wait for each other: then turns are asked for, not steps."""
        return self._in_turn is not None

    @property
    def meter(self) -> InStep | InTurn:
        """What has been counted so far: ``computed``, ``sent`` of each worker and ``link_bytes`` of each link."""
        engine = self._in_step or self._in_turn
        assert engine is not None
        return engine

    def advance(self, step: int) -> np.ndarray:
        """Return when each worker is done with ``step``, s, ``[workers]``; steps are asked for in turn.

        Raises:
            ValueError: the rule's workers do not keep step, or it is not the next step's turn.
        """
        if self._in_step is None:
            raise ValueError("asynchronous workers do not keep step; use next_turn()")
        if step != self._in_step.step:
            raise ValueError(f"step {step} is asked for, but it is the turn of step {self._in_step.step}")
        times = self._in_step.advance()
        self.now = float(times.max())
        return times

    def next_turn(self) -> Turn:
        """Return the next step of any worker that is over, in order of time.

        Raises:
            ValueError: the rule's workers keep step.
        """
        if self._in_turn is None:
            raise ValueError("workers of this rule keep step; use advance()")
        turn = self._in_turn.next_turn()
        self.now = turn.seconds
        return turn

    def state(self) -> dict[str, Any]:
        """Return plain data from which :meth:`load` goes on to the bit."""
        return {"now": self.now, "engine": self.meter.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state` of a clock that was made alike."""
        self.now = state["now"]
        self.meter.load(state["engine"])
