"""A network that gossips at a pace: several rounds after one step, none after another."""

from __future__ import annotations

from typing import Any, Protocol

from sgp_core.algorithms.base import Network
from sgp_core.flat import Flat, Scalar
from sgp_core.pacing import Numbers, Pace
from sgp_core.runtime.estimate import ConsensusEstimator, Gossiping
from sgp_core.topology import Topology


class EveryRound(Network, Gossiping, Protocol):
    """A network that a pace can drive."""

    topology: Topology


class PacedNetwork:
    """What :class:`sgp_core.algorithms.Network` describes, over another network, at a pace.

    Rounds are counted, and each uses the next graph of the topology, so that silence in between skips no edge.

    Args:
        network: what is paced.
        pace: how many rounds follow each step.
        like: a vector of the model's layout.
    """

    def __init__(self, network: EveryRound, pace: Pace, like: Flat) -> None:
        self.topology = network.topology
        self.pace = pace
        self._network = network
        self._numbers: Numbers = {}
        self._planned: int | None = None  # rounds of the step whose messages have begun to leave
        self._estimator = ConsensusEstimator(network, like) if pace.measure_every else None

    @property
    def estimate(self) -> tuple[int, float] | None:
        """The step and the value of the latest estimate of the relative consensus distance."""
        return self._estimator.latest if self._estimator else None

    def post(self, x: Flat, step: int, weight: Scalar | None = None) -> None:
        """Begin the first round of the step, if there is to be one."""
        if step < self.pace.warmup_steps:
            return
        if self._planned is None:
            self._planned = self.pace.rounds(step, self._numbers)
        if self._planned:
            self._network.post(x, int(self._numbers.get("round", 0)), weight)

    def mix(self, x: Flat, step: int, weight: Scalar | None = None) -> Scalar:
        """Mix as often as the pace says, or average exactly while it warms up."""
        if step < self.pace.warmup_steps:
            self.mean(x)
            return 1.0 if weight is None else weight * 0.0 + 1.0
        rounds = self.pace.rounds(step, self._numbers) if self._planned is None else self._planned
        self._planned = None
        for _ in range(rounds):
            graph = self._count("round")
            mixed = self._network.mix(x, graph, weight)
            weight = None if weight is None else mixed
            self._numbers["silent"] = 0
            self._carry(graph)
        if not rounds:
            self._carry(int(self._numbers.get("round", 0)) + self._count("silent"))
        if self._estimator is not None and self._estimator.idle and step % self.pace.measure_every == 0:
            self._estimator.begin(x, weight, step)
        return 1.0 if weight is None else weight

    def _carry(self, graph: int) -> None:
        """Carry an estimate on along a graph: that of the models, or the next one where these are silent."""
        if self._estimator is not None and (found := self._estimator.carry(graph)) is not None:
            self.pace.observe(found, self._numbers)

    def _count(self, what: str) -> int:
        before = self._numbers.get(what, 0)
        self._numbers[what] = before + 1
        return int(before)

    def push(self, x: Flat, step: int, weight: Scalar) -> Scalar:
        """Push every step once the warm-up is over; :func:`check_pace` lets no other pace come here."""
        if step < self.pace.warmup_steps:
            self.mean(x)
            return weight * 0.0 + 1.0
        return self._network.push(x, step, weight)

    def pull(self, x: Flat, step: int, weight: Scalar) -> Scalar:
        """Add what was pushed at ``step``, if anything was."""
        return self._network.pull(x, step, weight)

    def drain(self, x: Flat, weight: Scalar) -> Scalar:
        """Pull everything that is in flight."""
        return self._network.drain(x, weight)

    def scratch(self) -> Flat:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""
        return self._network.scratch()

    def mean(self, x: Flat) -> None:
        """Average exactly, as often as it is asked for."""
        self._network.mean(x)

    def state_dict(self) -> dict[str, Any]:
        """Return what the pace remembers and what is under way for it."""
        return {
            "numbers": dict(self._numbers),
            "estimator": self._estimator.state_dict() if self._estimator else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self._numbers = dict(state["numbers"])
        if self._estimator is not None:
            self._estimator.load_state_dict(state["estimator"])
