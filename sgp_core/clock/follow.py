"""Let a rule run step after step with nothing to compute, and note what it asks of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sgp_core.clock.acts import Act, AverageInBackward, Await, AwaitCollective, Begin, Collective, CollectiveVerb, Leave
from sgp_core.clock.placeholder import NOTHING_MUCH, Placeholder
from sgp_core.clock.traffic import Traffic
from sgp_core.pacing.base import Numbers, Plan
from sgp_core.pacing.graphs import PacedTopology
from sgp_core.tensors.layout import TensorLayout
from sgp_core.topology.base import Edges, Topology

if TYPE_CHECKING:
    from sgp_core.algorithms.worker import Worker
    from sgp_core.compression import Codec

_LEARNING_RATE = 0.1
_ELEMENT_BYTES = 4
_NO_ONE = np.zeros(0, dtype=np.int64)


class _Network:
    """What :class:`sgp_core.algorithms.Network` describes, which notes what it is asked for."""

    def __init__(self, traffic: Traffic, names_only: bool) -> None:
        self.topology = traffic.topology
        self.acts: list[Act] = []
        self.numbers: Numbers = {}
        self.next_key = 0
        self.pushed: dict[int, int] = {}  # step of the graph -> key of its messages
        self.ahead: int | None = None  # key of the messages that were posted ahead
        self.posted: int | None = None
        self.means: dict[int, int] = {}  # key of the rule's -> key of the average that is under way
        self.halves: dict[int, int] = {}  # key of the rule's -> bytes of the half of its way that is still to come
        self.began = False  # whether models may differ: until they have been sent once, they are alike
        self.first = True
        self._traffic, self._names_only = traffic, names_only
        self._planned: tuple[int, Plan] | None = None
        self._edges: dict[int, tuple[Edges, np.ndarray, np.ndarray]] = {}
        """By identity of the edges of a node graph, what they are between workers."""

    # -- gossip ------------------------------------------------------------------------------------------------------
    def post(self, x: Placeholder, step: int, weight: Any = None) -> None:
        """Note that messages begin to travel, where they leave inside backward."""
        plan = self._plan(step)
        if self._traffic.step_in_backward and plan.rounds and not plan.average:
            self.posted = self._leave(self._graph(step), in_backward=True)

    def mix(self, x: Placeholder, step: int, weight: Any = None) -> Any:
        """Note the rounds of a step, or the exact average that its pace has in their place."""
        plan = self._plan(step)
        self.began = True
        if plan.average:
            self.mean(x)
        for number in range(plan.rounds if not plan.average else 0):
            key, self.posted = self.posted, None
            if key is None or number:
                key = self._leave(self._graph(step))
            self.acts.append(Await(key))
            self._count(step)
        self._planned = None
        return 1.0

    def post_ahead(self, z: Placeholder, step: int, weight: Any = None) -> None:
        """Note that models leave before their step."""
        plan = self._plan(step)
        self.began = True
        if plan.rounds == 1 and not plan.average:
            self.ahead = self._leave(self._graph(step))

    def combine(self, z: Placeholder, step: int, weight: Any = None, *, apart: bool = False) -> Any:
        """Note that a worker waits for the models of a step; at first all are alike, and none are sent."""
        plan = self._plan(step)
        key, self.ahead = self.ahead, None
        if plan.average or (key is None and weight is None and not self.began):
            return 1.0
        for number in range(plan.rounds):
            if key is None or number:
                key = self._leave(self._graph(step))
            self.acts.append(Await(key))
            self._count(step)
        return 1.0

    def complete(self, x: Placeholder, step: int, weight: Any = None) -> Any:
        """Note the exact average that a pace may have in the place of rounds."""
        if self._plan(step).average:
            self.mean(x)
        self._planned = None
        return 1.0

    def push(self, x: Placeholder, step: int, weight: Any) -> Any:
        """Note that shares leave, once those whose memory they use have left."""
        if self._plan(step).average:
            return 1.0
        before = self.pushed.get(step - self._traffic.algorithm.traits.steps_in_flight)
        if before is not None:
            self.acts.append(Await(before, received=False))
        self.pushed[step] = self._leave(self._each_step(step), in_backward=self._traffic.step_in_backward)
        return 1.0

    def pull(self, x: Placeholder, step: int, weight: Any) -> Any:
        """Note that a worker waits for the shares of a step."""
        planned, self._planned = self._planned, None
        if planned is not None and planned[1].average:
            self.mean(x)
        elif (key := self.pushed.pop(step, None)) is not None:
            self.acts.append(Await(key, sent=False))
        return 1.0

    def drain(self, x: Placeholder, weight: Any) -> Any:
        """Note that a worker waits for all shares."""
        for step in sorted(self.pushed):
            self.acts.append(Await(self.pushed[step]))
        self.pushed.clear()
        return 1.0

    # -- everything else ---------------------------------------------------------------------------------------------
    def mean(self, x: Placeholder) -> None:
        """Note an exact average."""
        if self._traffic.buckets:
            self.acts.append(AverageInBackward(self._traffic.buckets, in_nodes=self._traffic.node_size > 1))
        else:
            self.acts.append(Collective(CollectiveVerb.all_reduce, self._traffic.model_bytes))

    def post_mean(self, x: Placeholder, key: int, codec: Codec | None = None) -> None:
        """Note that an average begins; a coded one is on its way twice, with half of the bytes each time."""
        nbytes = round(self._traffic.model_bytes * x.share)
        if codec is not None:
            nbytes = codec.nbytes([TensorLayout.packed([(max(1, nbytes // _ELEMENT_BYTES),)], "float32")])
            self.halves[key] = nbytes = -(-nbytes // 2)
        self._begin_mean(key, nbytes)

    def forward_mean(self, key: int) -> None:
        """Note that workers wait for the first half of it, and the second begins."""
        if key in self.halves:
            self.acts.append(AwaitCollective(self.means[key]))
            self._begin_mean(key, self.halves.pop(key))

    def take_mean(self, key: int) -> Placeholder:
        """Note that workers wait for it."""
        self.forward_mean(key)
        self.acts.append(AwaitCollective(self.means.pop(key)))
        return NOTHING_MUCH

    def _begin_mean(self, key: int, nbytes: int) -> None:
        self.means[key], self.next_key = self.next_key, self.next_key + 1
        self.acts.append(Begin(Collective(CollectiveVerb.all_reduce, nbytes), self.means[key]))

    def mix_along(self, x: Placeholder, topology: Topology, step: int) -> None:
        """Note a round along another graph."""
        self.acts.append(Await(self._leave(step, topology, nbytes=self._traffic.model_bytes)))

    def swap(self, outgoing: Sequence[Placeholder], incoming: Sequence[Placeholder], step: int) -> None:
        """Note an exchange with every neighbour."""
        self.acts.append(Await(self._leave(step, nbytes=self._traffic.model_bytes)))

    def scratch(self) -> Placeholder:
        """Return what takes the place of memory."""
        return NOTHING_MUCH

    def in_degree(self, step: int) -> int:
        """Return how many in-peers there are at most."""
        return self.topology.edges(step).max_in_degree

    def own(self, values: np.ndarray) -> float:
        """Return 1: no number matters."""
        return 1.0

    def inside(self, verb: CollectiveVerb) -> None:
        """Note a collective of the workers of each node."""
        if self._traffic.node_size > 1 and not self._traffic.buckets:  # each bucket has its own
            self.acts.append(Collective(verb, self._traffic.model_bytes, inside=True))

    # -- rounds ------------------------------------------------------------------------------------------------------
    def _plan(self, step: int) -> Plan:
        if self._traffic.pace is None:
            return Plan(1)
        if self._planned is None or self._planned[0] != step:
            self._planned = step, self._traffic.pace.plan(step, self.numbers)
        return self._planned[1]

    def _graph(self, step: int) -> int:
        """Return the number of the graph of the next round."""
        if self._traffic.pace is None:
            return step
        graphs = cast(PacedTopology, self.topology)
        choice = graphs.choice(step, denser=self._plan(step).denser)
        return graphs.number(choice, int(self.numbers.get(f"rounds {choice}", 0)))

    def _each_step(self, step: int) -> int:
        return step if self._traffic.pace is None else cast(PacedTopology, self.topology).each_step(step)

    def _count(self, step: int) -> None:
        if self._traffic.pace is not None:
            choice = cast(PacedTopology, self.topology).choice(step, denser=self._plan(step).denser)
            self.numbers[f"rounds {choice}"] = self.numbers.get(f"rounds {choice}", 0) + 1

    def _leave(
        self, graph: int, topology: Topology | None = None, *, nbytes: int | None = None, in_backward: bool = False
    ) -> int:
        key, self.next_key = self.next_key, self.next_key + 1
        if self._names_only:
            senders = receivers = _NO_ONE
        else:
            senders, receivers = self._between_workers((topology or self.topology).edges(graph))
        size = self._traffic.message_bytes if nbytes is None else nbytes
        self.acts.append(Leave(senders, receivers, -(-size // self._traffic.node_size), key, in_backward))
        return key

    def _between_workers(self, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
        """Return senders and receivers: where nodes gossip, their workers of equal place."""
        known = self._edges.get(id(edges))
        if known is None or known[0] is not edges:
            pairs = np.array([(j, i) for j, peers in enumerate(edges.out_peers) for i in peers], dtype=np.int64)
            pairs = pairs.reshape(-1, 2)
            size = self._traffic.node_size
            spread = (pairs[:, None, :] * size + np.arange(size)[None, :, None]).reshape(-1, 2)
            if len(self._edges) >= 64:
                self._edges.clear()
            self._edges[id(edges)] = known = (edges, spread[:, 0], spread[:, 1])
        return known[1], known[2]


class _IdleWorker:
    """What :class:`sgp_core.algorithms.Worker` describes, with nothing in it."""

    update_reads_model = False
    lr = _LEARNING_RATE

    def __init__(self, network: _Network, biased: bool) -> None:
        self.step, self.first_step = 0, 0
        self.params = self.grads = NOTHING_MUCH
        self.weight: Any = 1.0
        self.biased, self.averaged = biased, False
        self.network = network
        self.numbers: dict[str, float] = {}

    def memory(self, name: str, like: Placeholder | None = None) -> Placeholder:
        return NOTHING_MUCH

    def number(self, name: str, default: float = 0.0) -> float:
        return self.numbers.get(name, default)

    def set_number(self, name: str, value: float) -> None:
        self.numbers[name] = value

    def optimizer_buffers(self) -> Placeholder:
        return NOTHING_MUCH

    def reset_optimizer(self) -> None:
        pass


class Follower:
    """Says what happens after the computation of each step, from the first on, in turn.

    Args:
        traffic: of the rule.
        names_only: leave out who sends to whom, which takes longest to find.
    """

    def __init__(self, traffic: Traffic, *, names_only: bool = False) -> None:
        self._network = _Network(traffic, names_only)
        self._worker = _IdleWorker(self._network, traffic.algorithm.leaves_one(traffic.topology))
        self._rule = traffic.algorithm

    @property
    def step(self) -> int:
        """The step whose acts :meth:`acts` returns next."""
        return self._worker.step

    def acts(self) -> list[Act]:
        """Return what happens after the computation of the next step, up to the computation of the one after."""
        worker = cast("Worker", self._worker)
        self._network.acts = []
        self._network.inside(CollectiveVerb.reduce_scatter)
        self._rule.on_gradients(worker)
        self._worker.averaged = False
        self._rule.before_step(worker)
        self._rule.after_step(worker)
        self._rule.receive(worker)
        self._network.inside(CollectiveVerb.all_gather)
        self._worker.step += 1
        self._rule.send_ahead(worker)
        return self._network.acts

    def state(self) -> dict[str, Any]:
        """Return plain data from which :meth:`load` goes on."""
        network, worker = self._network, self._worker
        return {
            "step": worker.step,
            "averaged": worker.averaged,
            "numbers": dict(worker.numbers),
            "pace": dict(network.numbers),
            "key": network.next_key,
            "pushed": {str(step): key for step, key in network.pushed.items()},
            "means": {str(step): key for step, key in network.means.items()},
            "halves": {str(step): nbytes for step, nbytes in network.halves.items()},
            "ahead": network.ahead,
            "began": network.began,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        network, worker = self._network, self._worker
        worker.step, worker.averaged, worker.numbers = state["step"], state["averaged"], dict(state["numbers"])
        network.numbers, network.next_key = dict(state["pace"]), state["key"]
        network.pushed = {int(step): key for step, key in state["pushed"].items()}
        network.means = {int(step): key for step, key in state.get("means", {}).items()}
        network.halves = {int(step): nbytes for step, nbytes in state.get("halves", {}).items()}
        network.ahead, network.began = state["ahead"], state["began"]
