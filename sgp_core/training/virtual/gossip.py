"""All virtual workers of an experiment, in the place of the ``Gossip`` of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm
from sgp_core.compatibility import check_compatibility
from sgp_core.compression import Codec
from sgp_core.distributed.waits import Waits
from sgp_core.errors import ConfigurationError
from sgp_core.nonfinite import Nonfinite
from sgp_core.pacing import Pace
from sgp_core.runtime.events import Staleness
from sgp_core.simulator.stacked_workers import StackedWorkers
from sgp_core.timeline import Timeline
from sgp_core.topology import Topology
from sgp_core.training.virtual.finite import VirtualFiniteCheck
from sgp_core.training.virtual.models import VirtualModels
from sgp_core.training.virtual.optimizer import stack_optimizer

_ROWS = 64
"""Rows that a distance is computed of at a time."""


class VirtualGossip:
    """n virtual workers that keep step, with what the training loop asks of :class:`sgp_core.Gossip`.

    What a worker tells of itself (weight, bytes) is what rank 0 would tell; what all agree on is that of all.

    Args:
        models: of all workers; the module is rank 0's outside of the blocks below.
        optimizer: over the parameters of the module; from here on over those of all workers.
        algorithm, topology, pace, compression, nonfinite: as in :class:`sgp_core.Gossip`.

    Raises:
        ConfigurationError: choices that do not go together.
    """

    inherited: dict[str, Any] | None = None
    asynchronous = False
    meeting_requested = False
    rank = 0

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
        self.algorithm, self.topology, self.optimizer = algorithm, topology, optimizer
        self.models = models
        self.staleness = Staleness()
        self.waits = Waits(None, 1.0, in_step=True)
        self._parameters = stack_optimizer(optimizer, models)
        self.finite = VirtualFiniteCheck(models, nonfinite, self.waits)
        self._gradients_travel = algorithm.traits.reads_gradients or models.node_size > 1
        self._stack = StackedWorkers(
            algorithm,
            topology,
            models.z,
            optimizer,
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
            self._stack.take_gradients(self.models.gradients)
            if clip_norm is not None:
                clip_rows_(self.models.gradients, clip_norm)
        for parameter, gradient in self._parameters:
            parameter.grad = gradient if taken else None
        self._stack.step()
        return taken

    # -- what the loop asks --------------------------------------------------------------------------------------------
    @property
    def step(self) -> int:
        """Steps completed."""
        return self._stack.worker.step

    @property
    def skipped_steps(self) -> int:
        """Steps that were skipped, because a gradient was not finite."""
        return self.finite.skipped

    @property
    def push_sum_weight(self) -> float:
        """Rank 0's PushSum weight."""
        return float(self._stack.weights[0])

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

    @torch.no_grad()
    def consensus_distance(self) -> float:
        """Return ``sqrt(mean_i ||z_i - z_bar||^2) / ||z_bar||``."""
        return distance_of_rows(self.models.z)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block, the module holds the average of all workers, what is in flight included, and so do its
        buffers."""
        with torch.no_grad():
            x, _ = self._stack.numerators()
            mean = x.div_(len(self.models.z))
        with self.models.averaged(mean):
            yield

    def replica(self, worker: int) -> AbstractContextManager[None]:
        """Return a block inside which the module is a worker's."""
        return self.models.replica(worker)

    def check_finite(self) -> None:
        """Look at all models.

        Raises:
            NotFinite: one is not finite; the message names its rank and the tensor.
        """
        with torch.no_grad():
            self.finite.check_models(self.step, sends=False)

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
            "worker_buffers": {name: stack.clone() for name, stack in self.models.buffers.items()},
            "node_size": self.models.node_size,
            "device": self.models.z.device.type,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self._stack.load_state_dict(state)
        for name, stack in self.models.buffers.items():
            stack.copy_(state["worker_buffers"][name])

    # -- what only processes do ----------------------------------------------------------------------------------------
    def record(self, timeline: Timeline | None) -> None:
        """Refuse to record.

        Raises:
            ConfigurationError: virtual workers wait for no messages.
        """
        if timeline is not None:
            raise ConfigurationError("virtual workers wait for no messages that a timeline could show")

    def admit(self, extra: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Do nothing: no worker comes."""

    def request_meeting(self) -> None:
        """Do nothing: all are here."""


def clip_rows_(gradients: Tensor, max_norm: float) -> None:
    """Scale every row to a norm of at most ``max_norm``, as ``torch.nn.utils.clip_grad_norm_`` scales one worker's."""
    norms = torch.nan_to_num(torch.linalg.vector_norm(gradients, dim=1, keepdim=True), nan=0.0, posinf=0.0)
    gradients.mul_(torch.clamp(max_norm / (norms + 1e-6), max=1.0))


def distance_of_rows(z: Tensor) -> float:
    """Return the consensus distance between the rows of ``z``, ``[n, d]``."""
    if len(z) == 1:
        return 0.0
    mean = z.mean(0)
    spread = sum(float(torch.linalg.vector_norm(rows - mean, dtype=torch.float64)) ** 2 for rows in z.split(_ROWS))
    size = float(torch.linalg.vector_norm(mean, dtype=torch.float64))
    return float((spread / len(z)) ** 0.5 / max(size, 1e-300))
