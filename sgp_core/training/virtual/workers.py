"""What the training loop asks of virtual workers, whether they keep step or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm
from sgp_core.clock import VirtualClock
from sgp_core.distributed.waits import Waits
from sgp_core.errors import ConfigurationError
from sgp_core.nonfinite import Nonfinite
from sgp_core.timeline import Timeline
from sgp_core.topology import Topology
from sgp_core.training.virtual.finite import VirtualFiniteCheck
from sgp_core.training.virtual.models import VirtualModels

_ROWS = 64
"""Rows that a distance is computed of at a time."""


class VirtualWorkers(ABC):
    """All virtual workers of an experiment, with what the training loop asks of :class:`sgp_core.Gossip`.

    What a worker tells of itself (step, weight, bytes) is what rank 0 would tell; what all agree on is that of all.

    Args:
        models: of all workers; the module is rank 0's outside of the blocks below.
        algorithm, topology, nonfinite: as in :class:`sgp_core.Gossip`.
        clock: when workers would be done on a given network; None: that is not asked.
    """

    inherited: dict[str, Any] | None = None
    meeting_requested = False
    rank = 0

    def __init__(
        self,
        models: VirtualModels,
        algorithm: Algorithm,
        topology: Topology,
        nonfinite: Nonfinite | None,
        clock: VirtualClock | None,
    ) -> None:
        self.clock = clock
        self.models = models
        self.algorithm, self.topology = algorithm, topology
        self.waits = Waits(None, 1.0, in_step=True)
        self.finite = VirtualFiniteCheck(models, nonfinite, self.waits)

    @property
    @abstractmethod
    def step(self) -> int:
        """Steps that rank 0 has completed."""

    @property
    @abstractmethod
    def push_sum_weights(self) -> list[float]:
        """Every worker's PushSum weight, by rank."""

    @abstractmethod
    def mean(self) -> Tensor:
        """Return the average of all workers, what is in flight included, ``[d]``."""

    @property
    def push_sum_weight(self) -> float:
        """Rank 0's PushSum weight."""
        return self.push_sum_weights[0]

    @property
    def skipped_steps(self) -> int:
        """Steps that were skipped, because a gradient was not finite."""
        return self.finite.skipped

    @torch.no_grad()
    def consensus_distance(self) -> float:
        """Return ``sqrt(mean_i ||z_i - z_bar||^2) / ||z_bar||``."""
        z = self.models.z
        if len(z) == 1:
            return 0.0
        mean = z.mean(0)
        spread = sum(float(torch.linalg.vector_norm(rows - mean, dtype=torch.float64)) ** 2 for rows in z.split(_ROWS))
        size = float(torch.linalg.vector_norm(mean, dtype=torch.float64))
        return float((spread / len(z)) ** 0.5 / max(size, 1e-300))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block, the module holds the average of all workers, and so do its buffers."""
        with torch.no_grad():
            mean = self.mean()
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

    @property
    def virtual_time_s(self) -> float | None:
        """Seconds until the slowest worker would have done the latest step; None without a clock."""
        return None if self.clock is None else self.clock.now

    def common_state(self) -> dict[str, Any]:
        """Return every worker's buffers, the clock, and where the models are."""
        return {
            "worker_buffers": {name: stack.clone() for name, stack in self.models.buffers.items()},
            "node_size": self.models.node_size,
            "device": self.models.z.device.type,
            "clock": None if self.clock is None else self.clock.state(),
        }

    @torch.no_grad()
    def load_common(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`common_state`. A clock that the saved run had not begins where it is."""
        if self.clock is not None and state["clock"] is not None:
            self.clock.load(state["clock"])
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
