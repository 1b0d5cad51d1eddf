"""What a worker can tell of itself without communication."""

from __future__ import annotations

from sgp_core.algorithms.base import Algorithm
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.runtime.events import Event, Staleness
from sgp_core.runtime.finite_check import FiniteCheck
from sgp_core.runtime.global_collectives import GlobalCollectives
from sgp_core.runtime.optimizer_hooks import OptimizerHooks
from sgp_core.runtime.scheduled_network import ScheduledNetwork
from sgp_core.runtime.worker_network import WorkerNetwork
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.topology import Topology


class WorkerFacts:
    """The facts that ``Gossip`` tells at any time, without waiting for other workers."""

    algorithm: Algorithm
    topology: Topology
    network: WorkerNetwork
    _node: NodeGroup
    _workers: GlobalCollectives
    _worker: WorkerState
    _paced: ScheduledNetwork | None
    _hooks: OptimizerHooks
    _finite: FiniteCheck

    def __repr__(self) -> str:
        where = f"rank {self.rank} of {self.world_size}" if self.world_size > 1 else "alone"
        way = f", {self.transport}" if self.transport else ""
        return f"Gossip({where}, {self.algorithm} on {self.topology}{way}, step {self.step})"

    @property
    def rank(self) -> int:
        """This worker's rank in the group."""
        return self._node.number * self._node.size + self._node.place

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return self._workers.size

    @property
    def step(self) -> int:
        """Optimizer steps completed."""
        return self._worker.step

    @property
    def skipped_steps(self) -> int:
        """Steps that were skipped since this was built, because a gradient was not finite."""
        return self._finite.skipped

    @property
    def transport(self) -> str | None:
        """How models travel, by the name that chooses it; None in a world of one."""
        return self.network.transport_name

    @property
    def steps_in_backward(self) -> bool:
        """Whether the optimizer's steps, and any clipping before them, happen inside ``backward()``."""
        return self._hooks.inside_backward

    @property
    def push_sum_weight(self) -> float:
        """This worker's (its node's) PushSum weight ``w``; exactly 1 on doubly stochastic graphs."""
        return float(self._worker.weight)

    @property
    def bytes_sent(self) -> int:
        """Bytes this worker has sent for training so far (an AllReduce counts as a ring's), to other nodes only."""
        return self.network.bytes_sent

    @property
    def bytes_sent_inside(self) -> int:
        """Bytes this worker has sent for training so far to the workers of its own node."""
        return self._node.bytes_sent

    @property
    def communication_seconds(self) -> float:
        """Seconds the training thread has spent in communication so far, waiting and mixing included."""
        return self.network.seconds + self._node.seconds

    @property
    def consensus_estimate(self) -> tuple[int, float] | None:
        """Step and value of the latest estimate of :meth:`consensus_distance`; None unless a pace measures it.

        It travels with the messages, needs no collective, and is the same number on every worker.
        """
        return None if self._paced is None else self._paced.estimate

    @property
    def asynchronous(self) -> bool:
        """Whether each worker steps at its own pace. Workers then meet in every method that all of them must call."""
        return self.network.asynchronous

    @property
    def staleness(self) -> Staleness:
        """How old what this worker used was; counted with asynchronous algorithms only."""
        return self.network.staleness

    @property
    def events(self) -> list[Event]:
        """What this worker used when, from its start or its last load; empty without ``record_events``."""
        return list(self.network.events or ())

    @property
    def meeting_requested(self) -> bool:
        """Whether a worker has asked for a meeting since the last one. The training loop should then let all meet."""
        return self.network.meeting_requested
