"""What a worker saves and loads: the state of its rule, its network and its pace, and what communication has cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sgp_core.distributed.model_shard import ModelShard
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.scheduled_network import ScheduledNetwork
from sgp_core.runtime.state_identity import StateIdentity
from sgp_core.runtime.worker_network import WorkerNetwork
from sgp_core.runtime.worker_state import WorkerState


class GossipState:
    """The state of one worker, beside its optimizer's and the model's buffers.

    Args:
        worker: what the rule remembers.
        shard: what this worker gossips of the model.
        network: what carries it.
        paced: the network at its pace; None where a round follows every step.
        node: this worker's node.
        identity: what a state must belong to.
    """

    def __init__(
        self,
        worker: WorkerState,
        shard: ModelShard,
        network: WorkerNetwork,
        paced: ScheduledNetwork | None,
        node: NodeGroup,
        identity: StateIdentity,
    ) -> None:
        self._worker = worker
        self._shard = shard
        self._network = network
        self._paced = paced
        self._node = node
        self.identity = identity

    @torch.no_grad()
    def finish(self) -> None:
        """Wait for messages in flight and add them. Collective; workers of an asynchronous rule meet.

        Models that were sent ahead are given up: nothing of them was taken off, and they may change from then on.
        Averages under way have then arrived; a rule uses them when it would have.
        """
        self._network.recall()
        self._network.means.settle()
        if self._network.in_flight:
            worker = self._worker
            worker.params.mul_(worker.weight)
            worker.weight = self._network.drain(worker.params, worker.weight)
            worker.params.div_(worker.weight)
            self._shard.spread()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs, messages in flight included; tensors are copies. Collective."""
        if self._network.asynchronous:
            self.finish()
        self._network.means.settle()  # which may change what a rule remembers
        return {
            "identity": self.identity.description,
            **self._worker.state_dict(),
            "device": self._shard.flat.tensors[0].device.type,
            **self._network.state_dict(),
            "pace": None if self._paced is None else self._paced.state_dict(),
            "bytes_sent_inside": self._node.bytes_sent,
            "seconds": self._network.seconds + self._node.seconds,
        }

    @property
    def step(self) -> int:
        """Optimizer steps completed."""
        return self._worker.step

    @torch.no_grad()
    def numerators(self) -> tuple[list[Tensor], float] | None:
        """Return ``x`` and ``w`` with what is in flight added, which stays in flight; None if nothing is. Collective.

        ``x`` is made of copies.
        """
        if self._network.asynchronous or not self._network.in_flight:
            return None
        x = self._worker.params.clone().mul_(self._worker.weight)
        put_back = self._network.keep_in_flight()
        with self._network.uncounted():
            weight = float(self._network.drain(x, self._worker.weight))
        put_back()
        return x.tensors, weight

    def restart(self, step: int) -> None:
        """Begin after ``step`` steps from the model as it is, alike on all workers. Collective.

        The rule remembers nothing, weights are 1, and nothing is in flight; no step has been taken.
        """
        self._network.recall()
        self._network.means.forget()
        self._worker.restart(step)
        self._network.restart(step)

    def check(self, state: dict[str, Any]) -> None:
        """Refuse a state that is not this worker's, before anything is loaded.

        Raises:
            ConfigurationError: it was saved by another worker or under other choices, or has messages under way that
                the rule would never add.
            ValueError: only one of the saved run and this one compresses.
        """
        if "identity" in state:  # not in states of version 0.1
            self.identity.check(state["identity"])
        elif state["in_flight"] and not self.identity.algorithm.traits.steps_in_flight:
            raise ConfigurationError(
                "the state has messages under way, which this algorithm would never add; build it as it was saved, with"
                " order=adapt_then_combine where overlap_steps was 1"
            )
        self._network.check_state(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`. Collective over a node; workers of an asynchronous rule meet.

        Raises:
            ConfigurationError: the state is not this worker's.
            ValueError: the state, of a version that did not say what it belongs to, is of another model.
        """
        self.check(state)
        self._network.recall()
        self._worker.load_state_dict(state)
        self._network.load_state_dict(state, self._worker.step)
        self._network.means.load(state.get("means", {}), self._shard.flat.tensors[0])
        if self._paced is not None:
            self._paced.load_state_dict(state["pace"])
        self._shard.spread()
        self._node.bytes_sent = int(state.get("bytes_sent_inside", 0))
        self._network.seconds, self._node.seconds = float(state["seconds"]), 0.0
