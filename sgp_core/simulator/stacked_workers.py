"""Virtual workers that keep step: one rule that acts on the models of all of them at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm
from sgp_core.compression import Codec
from sgp_core.pacing import Pace
from sgp_core.pacing.graphs import graphs_of
from sgp_core.runtime.optimizers import update_reads_model
from sgp_core.runtime.scheduled_network import ScheduledNetwork
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.simulator.compressed import SimulatedReplicas
from sgp_core.simulator.network import SimulatedNetwork
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.layout import TensorLayout
from sgp_core.topology import Topology


class StackedWorkers:
    """The stages of a rule's step, over models that are the rows of one matrix.

    Args:
        algorithm: the very object that real workers run.
        topology: over n workers, or nodes.
        z: the de-biased models, ``[n, d]``, changed in place.
        optimizer: over ``z``, or columns of it; what it does to an element depends on that element alone.
        pace: what follows each step; None: a round of gossip.
        compression: how messages are coded; None: not at all.
        layout: what a row is made of, for codecs that see matrices; None: one vector.
        node_size: workers of a node.
        check: looks at the models after the optimizer's step, before anything of them reaches others.

    Attributes:
        seconds: spent in the rule, mixing included, and not in the optimizer.
        worker: all workers as their rule sees them.
        network: the exchanges between them.
        paced: the same at its pace; None where a round follows every step.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        topology: Topology,
        z: Tensor,
        optimizer: torch.optim.Optimizer,
        *,
        pace: Pace | None = None,
        compression: Codec | None = None,
        layout: TensorLayout | None = None,
        node_size: int = 1,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.seconds = 0.0
        self._check = check
        graphs, n = graphs_of(topology, pace), topology.world_size
        references = None
        if compression is not None:
            layout = layout or TensorLayout.packed([z.shape[1:]], str(z.dtype).removeprefix("torch."))
            references = SimulatedReplicas(compression, layout, z[0], graphs, node_size)
        self.network = SimulatedNetwork(graphs, FlatVector([z]), references, node_size)
        self.paced = None if pace is None else ScheduledNetwork(self.network, pace, FlatVector([z]))
        self._optimizer = optimizer
        self.worker = WorkerState(
            FlatVector([z], shards=node_size),
            optimizer,
            self.paced or self.network,
            biased=algorithm.leaves_one(graphs),
            weight=torch.ones(n, 1, dtype=torch.float64, device=z.device),
        )

    @property
    def weights(self) -> Tensor:
        """The PushSum weights, ``[n, 1]``, float64."""
        weight = self.worker.weight
        assert isinstance(weight, Tensor)
        return weight

    def take_gradients(self, gradients: Tensor, parameters: int = 0) -> None:
        """Let the rule see, and change, the gradients of all workers (nodes), ``[n, d]``.

        Args:
            parameters: of how many real workers also send whether there is a gradient.
        """
        wire = [gradients, gradients.new_ones(len(gradients), parameters)] if parameters else None
        self.worker.grads = FlatVector([gradients], wire=wire)
        self.algorithm.on_gradients(self.worker)

    @torch.no_grad()
    def step(self) -> None:
        """Let the optimizer step, and the workers gossip."""
        algorithm, worker = self.algorithm, self.worker
        worker.averaged = False
        worker.update_reads_model = update_reads_model([self._optimizer])
        begin = time.perf_counter()
        algorithm.before_step(worker)
        begin_update = time.perf_counter()
        self._optimizer.step()
        if self._check is not None:
            self._check()
        end_update = time.perf_counter()
        algorithm.after_step(worker)
        algorithm.receive(worker)
        worker.step += 1
        algorithm.send_ahead(worker)
        self.seconds += time.perf_counter() - end_update + begin_update - begin

    def numerators(self) -> tuple[Tensor, Tensor]:
        """Return the sums of the numerators, ``[d]``, and of the weights, ``[]``, what is in flight included."""
        x, w = self.network.in_flight()
        z, weights = self.worker.params.tensors[0], self.weights
        if self.worker.biased:
            return x + (z * weights.to(z.dtype)).sum(0), w + weights.sum()
        return x + z.sum(0), w + weights.sum()

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on to the bit: tensors, numbers, and lists and dicts of them."""
        return {
            **self.worker.state_dict(),
            **self.network.state_dict(),
            "pace": None if self.paced is None else self.paced.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.worker.load_state_dict(state)
        self.network.load_state_dict(state)
        if self.paced is not None:
            self.paced.load_state_dict(state["pace"])
