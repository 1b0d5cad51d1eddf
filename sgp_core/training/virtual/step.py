"""One step of all virtual workers, in the place of :class:`sgp_core.training.step.TrainingStep`."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from sgp_core.nonfinite import Nonfinite
from sgp_core.tasks.base import Batch
from sgp_core.training.config import TrainingConfig
from sgp_core.training.due import DueSteps
from sgp_core.training.randomness import seed_model
from sgp_core.training.step import Criterion, autocast, diverged
from sgp_core.training.virtual.batches import WorkersBatch
from sgp_core.training.virtual.gossip import VirtualGossip
from sgp_core.training.virtual.gradients import VirtualGradients, first_not_finite
from sgp_core.training.virtual.turns import VirtualTurns


class VirtualStep:
    """Callable that takes one step of all workers and returns rank 0's mean loss; None where the step was skipped.

    Raises:
        TrainingDiverged: a worker's loss is nan or infinite.
        NotFinite: a gradient or an updated parameter is.
    """

    def __init__(self, gossip: VirtualGossip, criterion: Criterion, config: TrainingConfig, seed: int) -> None:
        self._gossip = gossip
        self._model = gossip.models.model
        self._config = config
        device = gossip.models.z.device
        self._gradients = VirtualGradients(
            gossip.models,
            criterion,
            lambda: autocast(device, config.precision),
            lambda worker: seed_model(seed, worker, gossip.step, device),
            batched=config.compile is None,
        )

    def __call__(self, batch: WorkersBatch) -> Tensor | None:
        if not self._model.training:
            self._model.train()
        losses = self._gradients(batch.batches, self._config.accumulation_steps)
        wrong = first_not_finite(losses)
        if wrong is not None:
            if self._config.nonfinite is not Nonfinite.skip:
                raise diverged(float(losses[wrong]), self._gossip.step + 1, wrong)
            self._gossip.models.gradients[wrong // self._gossip.models.node_size] = math.nan
        return losses[0] if self._gossip.take_step(self._config.clip_norm) else None

    def check(self, loss: float, step: int) -> None:
        """Raise TrainingDiverged if the loss is not finite."""
        if not math.isfinite(loss):
            raise diverged(loss, step, 0)


class VirtualTurnsStep:
    """Callable that lets asynchronous workers take their turns until rank 0 has taken its next, and returns its loss.

    Args:
        turns: the workers.
        criterion, config, seed: of the experiment.
        batch_of: returns a worker's batch of its own step.
        rate: returns what the initial learning rate is multiplied by at a step.
        due: says how many steps a worker takes.

    Raises:
        TrainingDiverged: a worker's loss is nan or infinite.
        NotFinite: a gradient or an updated parameter is.
    """

    def __init__(
        self,
        turns: VirtualTurns,
        criterion: Criterion,
        config: TrainingConfig,
        seed: int,
        *,
        batch_of: Callable[[int, int], Batch],
        rate: Callable[[int], float],
        due: DueSteps,
    ) -> None:
        self._turns = turns
        self._config = config
        self._batch_of = batch_of
        self._rate = rate
        self._loss: Tensor | None = None
        turns.take_turn, turns.last = self._take_turn, lambda: due.total_steps
        device = turns.models.z.device
        self._gradients = VirtualGradients(
            turns.models,
            criterion,
            lambda: autocast(device, config.precision),
            lambda worker: seed_model(seed, worker, turns.step_of(worker), device),
            batched=False,
        )

    def __call__(self, batch: Batch) -> Tensor | None:
        self._loss = None
        self._turns.go_on()
        return self._loss

    def _take_turn(self, rank: int) -> None:
        turns, config = self._turns, self._config
        if not turns.models.model.training:
            turns.models.model.train()
        step = turns.step_of(rank)
        for group in turns.optimizer_of(rank).param_groups:
            group["lr"] = group["initial_lr"] * self._rate(step)
        losses = self._gradients([self._batch_of(rank, step)], config.accumulation_steps, [rank])
        if not math.isfinite(float(losses[0])):
            if config.nonfinite is not Nonfinite.skip:
                raise diverged(float(losses[0]), step + 1, rank)
            turns.models.gradients[rank] = math.nan
        taken = turns.end_step(rank, config.clip_norm)
        if rank == 0:
            self._loss = losses[0] if taken else None

    def check(self, loss: float, step: int) -> None:
        """Raise TrainingDiverged if the loss is not finite."""
        if not math.isfinite(loss):
            raise diverged(loss, step, 0)
