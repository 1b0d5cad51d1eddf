"""One step of all virtual workers, in the place of :class:`sgp_core.training.step.TrainingStep`."""

from __future__ import annotations

import math

from torch import Tensor

from sgp_core.nonfinite import Nonfinite
from sgp_core.training.config import TrainingConfig
from sgp_core.training.randomness import seed_model
from sgp_core.training.step import Criterion, autocast, diverged
from sgp_core.training.virtual.batches import WorkersBatch
from sgp_core.training.virtual.gossip import VirtualGossip
from sgp_core.training.virtual.gradients import VirtualGradients, first_not_finite


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
