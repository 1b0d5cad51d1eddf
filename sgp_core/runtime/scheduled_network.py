"""A network that gossips at a pace: several rounds after one step, none after another, the exact mean after a third."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from sgp_core.algorithms.worker import Network
from sgp_core.compression import Codec
from sgp_core.pacing import Numbers, Pace, Plan
from sgp_core.pacing.graphs import PacedTopology
from sgp_core.runtime.accelerated_rounds import AcceleratedRounds
from sgp_core.runtime.consensus_estimator import ConsensusEstimator, ShardGroup, SketchNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology


class SchedulableNetwork(Network, SketchNetwork, Protocol):
    """A network that a pace can drive."""

    topology: Topology


class _Planned(NamedTuple):
    """What follows one step."""

    step: int
    plan: Plan
    before: Numbers
    """What the pace remembered before: models may leave, and so be planned for, before a state is saved."""


class ScheduledNetwork:
    """What :class:`sgp_core.algorithms.Network` describes, over another network, at a pace.

    Rounds are counted, for each topology apart, and each uses its next graph, so that silence in between skips no edge.

    Args:
        network: what is paced; its topology is what :func:`sgp_core.pacing.graphs.graphs_of` has made of the user's.
        pace: what follows each step.
        like: a vector of the model's layout.
        node: whose workers hold a shard each, of which ``like`` is one; None where workers are nodes.
    """

    def __init__(
        self, network: SchedulableNetwork, pace: Pace, like: FlatVector, node: ShardGroup | None = None
    ) -> None:
        self.topology = network.topology
        self._graphs = cast(PacedTopology, network.topology)
        self.pace = pace
        self._network = network
        self._numbers: Numbers = {}
        self._planned: _Planned | None = None  # what follows a step, once a part or a message of it has left
        self._used: list[int] = []  # the graphs of the rounds that were combined
        self._apart: FlatVector | None = None
        self._accelerated: AcceleratedRounds | None = None  # made when a plan asks for it
        self._estimator = ConsensusEstimator(network, like, node) if pace.measure_every else None

    @property
    def estimate(self) -> tuple[int, float] | None:
        """The step and the value of the latest estimate of the relative consensus distance."""
        return self._estimator.latest if self._estimator else None

    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Begin the first round of the step, if there is to be one."""
        plan = self._plan(step)
        if plan.rounds and not plan.average:
            choice = self._choice(step)
            self._network.post(x, self._graphs.number(choice, self._rounds(choice)), weight)

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Mix as often as the pace says, or average exactly."""
        if self._plan(step).average:
            return self._end(x, step, weight, [])
        mixed, graphs = self._rounds_of(x, step, weight)
        return self._end(x, step, mixed, graphs)

    def _rounds_of(self, x: FlatVector, step: int, weight: Scalar | None) -> tuple[Scalar | None, list[int]]:
        """Mix as often as the pace says; return the weight, and the graphs that were used."""
        plan = self._plan(step)
        graphs = [self._count(self._choice(step)) for _ in range(plan.rounds)]
        if plan.accelerate:
            if self._accelerated is None:
                self._accelerated = AcceleratedRounds(self._graphs.topologies[0])
            self._accelerated.begin()
            for graph in graphs:
                self._accelerated.once(x, partial(self._network.mix, x, graph))
            return weight, graphs  # the weights are 1: the graph is doubly stochastic
        for graph in graphs:
            mixed = self._network.mix(x, graph, weight)
            weight = None if weight is None else mixed
        return weight, graphs

    def _end(self, x: FlatVector, step: int, weight: Scalar | None, graphs: list[int]) -> Scalar:
        """End a step whose rounds used ``graphs``: average if the pace says so, and carry estimates on."""
        plan, self._planned = self._plan(step), None
        if plan.average:
            return self._average(x, weight)
        choice = self._graphs.choice(step, denser=plan.denser)
        if not graphs:
            silent = self._numbers["silent"] = self._numbers.get("silent", 0) + 1
            self._carry(self._graphs.number(choice, self._rounds(choice) + int(silent) - 1))
        for graph in graphs:
            self._numbers["silent"] = 0
            self._carry(graph)
        if self._estimator is not None and self._estimator.idle and step % self.pace.measure_every == 0:
            self._estimator.begin(x, weight, step)
        return 1.0 if weight is None else weight

    # -- models that are sent ahead ------------------------------------------------------------------------------------
    def post_ahead(self, z: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Begin the round that is to be combined at ``step``, if there is one. Of several none can be hidden."""
        if self._is_one_round(step):
            choice = self._choice(step)
            self._network.post_ahead(z, self._graphs.number(choice, self._rounds(choice)), weight)

    def combine(self, z: FlatVector, step: int, weight: Scalar | None = None, *, apart: bool) -> Scalar:
        """Combine as often as the pace says."""
        if self._is_one_round(step):
            self._used = [self._count(self._choice(step))]
            return self._network.combine(z, self._used[0], weight, apart=apart)
        plan = self._plan(step)
        if weight is None and (plan.average or not plan.rounds):
            self._used = []
            return 1.0
        mixed = z.clone() if apart else z
        if weight is not None:
            mixed.mul_(weight)
        after, self._used = (weight, []) if plan.average else self._rounds_of(mixed, step, weight)
        self._apart = mixed.add_(z, -1.0) if apart else None
        return 1.0 if after is None else after

    def complete(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Add what was kept apart, and end the step."""
        if self._is_one_round(step):
            self._network.complete(x, self._used[0], weight)
        elif self._apart is not None:
            x.add_(self._apart)
            self._apart = None
        return self._end(x, step, weight, self._used)

    def _is_one_round(self, step: int) -> bool:
        plan = self._plan(step)
        return plan.rounds == 1 and not plan.average

    def _choice(self, step: int) -> int:
        return self._graphs.choice(step, denser=self._plan(step).denser)

    def _average(self, x: FlatVector, weight: Scalar | None) -> Scalar:
        """Set ``x`` to its mean; numerators' weights are then all 1. Estimates under way are of what was before."""
        self.mean(x)
        if self._estimator is not None:
            self._estimator.abandon()
        return 1.0 if weight is None else weight * 0.0 + 1.0

    def _carry(self, graph: int) -> None:
        """Carry an estimate on along a graph: that of the models, or the next one where these are silent."""
        if self._estimator is not None and (found := self._estimator.carry(graph)) is not None:
            self.pace.observe(found, self._numbers)

    def _plan(self, step: int) -> Plan:
        if self._planned is not None and self._planned.step != step:  # all begin anew, after another step
            self._numbers, self._planned = self._planned.before, None
        if self._planned is None:
            before = dict(self._numbers)
            self._planned = _Planned(step, self.pace.plan(step, self._numbers), before)
        return self._planned.plan

    def _rounds(self, choice: int) -> int:
        return int(self._numbers.get(f"rounds {choice}", 0))

    def _count(self, choice: int) -> int:
        """Return the next graph of the topology chosen, and count it."""
        before = self._rounds(choice)
        self._numbers[f"rounds {choice}"] = before + 1
        return self._graphs.number(choice, before)

    def push(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Push every step once the warm-up is over; :func:`check_pace` lets no other pace come here."""
        if self._plan(step).average:
            return weight  # until all of it is there
        return self._network.push(x, self._graphs.each_step(step), weight)

    def pull(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Add what was pushed at ``step``, if anything was; or average exactly while it warms up."""
        planned, self._planned = self._planned, None
        if planned is not None and planned.plan.average:
            return self._average(x, weight)
        return weight if step < 0 else self._network.pull(x, self._graphs.each_step(step), weight)

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Pull everything that is in flight."""
        return self._network.drain(x, weight)

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""
        return self._network.scratch()

    def mean(self, x: FlatVector) -> None:
        """Average exactly, as often as it is asked for."""
        self._network.mean(x)

    def post_mean(self, x: FlatVector, key: int, codec: Codec | None = None) -> None:
        """Let an average begin to travel, as often as it is asked for."""
        self._network.post_mean(x, key, codec)

    def forward_mean(self, key: int) -> None:
        """Let the second half of its way begin."""
        self._network.forward_mean(key)

    def take_mean(self, key: int) -> FlatVector:
        """Wait for it, and return it."""
        return self._network.take_mean(key)

    def mix_along(self, x: FlatVector, topology: Topology, step: int) -> None:
        """Mix along another topology, as often as it is asked for."""
        self._network.mix_along(x, topology, step)

    def swap(self, outgoing: Sequence[FlatVector], incoming: Sequence[FlatVector], step: int) -> None:
        """Exchange vectors with neighbours: a rule that does so is not paced."""
        self._network.swap(outgoing, incoming, step)

    def in_degree(self, step: int) -> int:
        """Return how many in-peers there are at ``step``."""
        return self._network.in_degree(step)

    def own(self, values: np.ndarray) -> Scalar:
        """Return this worker's of ``values``, ``[n]``."""
        return self._network.own(values)

    def state_dict(self) -> dict[str, Any]:
        """Return what the pace remembers and what is under way for it."""
        return {
            "numbers": dict(self._numbers if self._planned is None else self._planned.before),
            "estimator": self._estimator.state_dict() if self._estimator else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self._numbers, self._planned = dict(state["numbers"]), None
        if self._estimator is not None:
            self._estimator.load_state_dict(state["estimator"])
