"""Virtual workers that never wait for each other: each takes its own steps, one worker after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm
from sgp_core.clock import VirtualClock
from sgp_core.compatibility import check_compatibility
from sgp_core.nonfinite import Nonfinite
from sgp_core.runtime.events import Staleness
from sgp_core.simulator.single_workers import SingleWorkers
from sgp_core.topology import Topology
from sgp_core.training.virtual.clipping import clip_rows_
from sgp_core.training.virtual.models import VirtualModels
from sgp_core.training.virtual.optimizer import stack_optimizer
from sgp_core.training.virtual.workers import VirtualWorkers


class VirtualTurns(VirtualWorkers):
    """Virtual workers of an asynchronous algorithm. A step of the loop is rank 0's; others take theirs meanwhile.

    Turns come in the order of the virtual clock, with the messages that have arrived by then, or else by rank, one step
    of each after another, with messages that arrive at once. Looking at the average makes nobody wait.

    Args:
        models: of all workers.
        optimizers: of each worker, over the parameters of the module.
        algorithm, topology, nonfinite: as in :class:`sgp_core.Gossip`.
        clock: says whose turn it is; None: by rank.

    Attributes:
        staleness: of what all workers have used.
        take_turn: lets a worker take its next step; the training step sets it.
        last: how many steps a worker takes at most, likewise.
    """

    asynchronous = True

    def __init__(
        self,
        models: VirtualModels,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        algorithm: Algorithm,
        topology: Topology,
        nonfinite: Nonfinite | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        check_compatibility(algorithm, topology, nonfinite=nonfinite, node_size=models.node_size)
        for group in optimizers[0].param_groups:
            algorithm.check_optimizer(group)
        super().__init__(models, algorithm, topology, nonfinite, clock)
        self.communication_seconds = 0.0
        self.take_turn: Callable[[int], object]
        self.last: Callable[[], int]
        stacked = [stack_optimizer(each, models, slice(rank, rank + 1)) for rank, each in enumerate(optimizers)]
        self._parameters = [parameters for _, parameters in stacked]
        rows = [models.z[rank : rank + 1] for rank in range(len(models.z))]
        steppers = [optimizer for optimizer, _ in stacked]
        self._single = SingleWorkers(algorithm, topology, rows, steppers, check=self._check)
        self.staleness = Staleness()
        self._share_staleness()
        if clock is not None:
            for network in self._single.networks:
                network.arrived = set()

    # -- steps ---------------------------------------------------------------------------------------------------------
    @property
    def step(self) -> int:
        """Steps that rank 0 has completed."""
        return self.step_of(0)

    def step_of(self, rank: int) -> int:
        """Return how many steps a worker has completed."""
        return self._single.workers[rank].step

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """That of rank 0."""
        return self.optimizer_of(0)

    def optimizer_of(self, rank: int) -> torch.optim.Optimizer:
        """Return the optimizer of a worker."""
        return self._single.steppers[rank]

    def go_on(self) -> None:
        """Let workers take their turns until rank 0 has taken its next step."""
        if self.clock is None:
            for rank in range(len(self.models.z)):
                self._turn(rank)
            return
        while self._turn_by_clock() != 0:
            pass

    @torch.no_grad()
    def end_step(self, rank: int, clip_norm: float | None) -> bool:
        """Take a worker's step with its row of ``models.gradients``; return whether it was taken, and not skipped."""
        begin = time.perf_counter()
        row = self.models.gradients[rank : rank + 1]
        taken = not self.finite.skips or self.finite.admit(self.step_of(rank) + 1, row, rank)
        if taken and clip_norm is not None:
            clip_rows_(row, clip_norm)
        for parameter, gradient in self._parameters[rank]:
            parameter.grad = gradient if taken else None
        self._single.step(rank)
        self._single.receive(rank)
        self.communication_seconds += time.perf_counter() - begin
        return taken

    def _turn(self, rank: int) -> None:
        if self.step_of(rank) < self.last():
            self.take_turn(rank)

    def _turn_by_clock(self) -> int:
        assert self.clock is not None
        turn = self.clock.next_turn()
        arrived = self._single.networks[turn.rank].arrived
        assert arrived is not None
        arrived.update((share.sender, share.step) for share in turn.arrived)
        self._turn(turn.rank)
        return turn.rank

    def _check(self, rank: int) -> None:
        self.finite.check_row(rank, self.step_of(rank) + 1)

    # -- what the loop asks --------------------------------------------------------------------------------------------
    @property
    def push_sum_weights(self) -> list[float]:
        """Every worker's PushSum weight, by rank."""
        return [float(worker.weight) for worker in self._single.workers]

    @property
    def bytes_sent(self) -> int:
        """Bytes that rank 0 would have sent."""
        return self._single.networks[0].bytes_sent

    def mean(self) -> Tensor:
        """Return the average of all workers, what is in flight included, ``[d]``."""
        return self._single.numerators() / len(self.models.z)

    def finish(self) -> None:
        """Let all workers take their last steps, and add what is in flight."""
        while min(map(self.step_of, range(len(self.models.z)))) < self.last():
            if self.clock is None:
                self.go_on()
            else:
                self._turn_by_clock()
        for rank, network in enumerate(self._single.networks):
            if network.arrived is not None:
                network.arrived.update((share.sender, share.step) for share in network.inbox)
            self._single.meet(rank)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resume to the bit needs, what is in flight included."""
        return {
            **self._single.state_dict(),
            **self.common_state(),
            "staleness": self.staleness.state(),
            "parameters": [self.models.z.clone()],
            "push_sum_weight": torch.tensor(self.push_sum_weights, dtype=torch.float64).unsqueeze(1),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self._single.load_state_dict(state)
        self.load_common(state)
        self.staleness = Staleness.of(state["staleness"])
        self._share_staleness()

    def _share_staleness(self) -> None:
        for network in self._single.networks:
            network.staleness = self.staleness
