"""All virtual workers of an experiment, in the place of the ``Gossip`` of one process."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm
from sgp_core.clock import VirtualClock
from sgp_core.compatibility import check_compatibility
from sgp_core.compression import Codec
from sgp_core.nonfinite import Nonfinite
from sgp_core.pacing import Pace
from sgp_core.runtime.events import Staleness
from sgp_core.simulator.stacked_workers import StackedWorkers
from sgp_core.topology import Topology
from sgp_core.training.virtual.clipping import clip_rows_
from sgp_core.training.virtual.models import VirtualModels
from sgp_core.training.virtual.optimizer import stack_optimizer
from sgp_core.training.virtual.workers import VirtualWorkers


class VirtualGossip(VirtualWorkers):
    """n virtual workers that keep step, with what the training loop asks of :class:`sgp_core.Gossip`.

    What a worker tells of itself (weight, bytes) is what rank 0 would tell; what all agree on is that of all.

    Args:
        models: of all workers; the module is rank 0's outside of the blocks below.
        optimizer: over the parameters of the module.
        algorithm, topology, pace, compression, nonfinite: as in :class:`sgp_core.Gossip`.
        clock: goes on with every step; None: there is none.

    Attributes:
        optimizer: over the parameters of all workers.

    Raises:
        ConfigurationError: choices that do not go together.
    """

    asynchronous = False

    def __init__(
        self,
        models: VirtualModels,
        optimizer: torch.optim.Optimizer,
        *,
        algorithm: Algorithm,
        topology: Topology,
        pace: Pace | None = None,
        compression: Codec | None = None,
        nonfinite: Nonfinite | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        check_compatibility(
            algorithm,
            topology,
            pace=pace,
            compression=compression,
            node_size=models.node_size,
            nonfinite=nonfinite,
        )
        for group in optimizer.param_groups:
            algorithm.check_optimizer(group)
        super().__init__(models, algorithm, topology, nonfinite, clock)
        self.staleness = Staleness()
        self.optimizer, self._parameters = stack_optimizer(optimizer, models)
        self._gradients_travel = algorithm.traits.reads_gradients or models.node_size > 1
        self._stack = StackedWorkers(
            algorithm,
            topology,
            models.z,
            self.optimizer,
            pace=pace if algorithm.traits.gossips else None,  # others have a rhythm of their own
            compression=compression,
            layout=models.layout,
            node_size=models.node_size,
            check=lambda: self.finite.check_models(self.step + 1),
        )

    # -- a step --------------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def take_step(self, clip_norm: float | None) -> bool:
        """Take a step with ``models.gradients``; return whether it was taken, and not skipped.

        Args:
            clip_norm: the norm that every worker clips its gradients to.

        Raises:
            NotFinite: a gradient or a model is not finite.
        """
        taken = True
        if self._gradients_travel or self.finite.skips:
            taken = self.finite.admit(self.step + 1)
        if taken:
            self._stack.take_gradients(self.models.gradients, len(self.models.parameters))
            if clip_norm is not None:
                clip_rows_(self.models.gradients, clip_norm)
        for parameter, gradient in self._parameters:
            parameter.grad = gradient if taken else None
        self._stack.step()
        if self.clock is not None:
            self.clock.advance(self.step - 1)
        return taken

    # -- what the loop asks --------------------------------------------------------------------------------------------
    @property
    def step(self) -> int:
        """Steps completed."""
        return self._stack.worker.step

    @property
    def push_sum_weights(self) -> list[float]:
        """Every worker's PushSum weight, by rank."""
        weights: list[float] = self._stack.weights.flatten().repeat_interleave(self.models.node_size).tolist()
        return weights

    @property
    def bytes_sent(self) -> int:
        """Bytes that rank 0 would have sent to other nodes."""
        return self._stack.network.sent_by_first

    @property
    def communication_seconds(self) -> float:
        """Seconds spent in the rule and in mixing models."""
        return self._stack.seconds

    def mean(self) -> Tensor:
        """Return the average of all workers, what is in flight included, ``[d]``."""
        x, _ = self._stack.numerators()
        return x.div_(len(self.models.z))

    @torch.no_grad()
    def finish(self) -> None:
        """Add what is in flight."""
        worker, network = self._stack.worker, self._stack.worker.network
        x, w = self._stack.network.in_flight()
        if worker.biased and (bool(w) or bool(x.any())):
            worker.params.mul_(worker.weight)
            worker.weight = network.drain(worker.params, worker.weight)
            worker.params.div_(worker.weight)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resume to the bit needs beside the optimizer's state."""
        return {
            **self._stack.state_dict(),
            **self.common_state(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self._stack.load_state_dict(state)
        self.load_common(state)
