"""One optimizer step of one worker: forward, backward, clipping, step. Gossip happens inside ``optimizer.step()``."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from sgp_core.gossip import Gossip
from sgp_core.nonfinite import Nonfinite, NotFinite
from sgp_core.tasks.base import Batch
from sgp_core.timeline import Timeline
from sgp_core.training.config import Precision, TrainingConfig

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Returns the mean loss over targets, from a model's outputs and the targets."""


class TrainingDiverged(NotFinite, RuntimeError):
    """The loss, of training or of an evaluation, is not finite; the message names step and rank."""


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which forward passes run."""
    if precision is Precision.fp32:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class TrainingStep:
    """Callable that takes one optimizer step on a batch and returns its mean loss, a scalar tensor on the device; None
    where the step was skipped.

    A batch is computed in ``accumulation_steps`` parts, each weighted by its share of the targets, so the gradient is
    that of the whole batch; clipping acts on the global norm of that gradient.

    Raises:
        TrainingDiverged: the loss is nan or infinite.
        NotFinite: a gradient or an updated parameter is. Neither has reached another worker.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        gossip: Gossip,
        criterion: Criterion,
        config: TrainingConfig,
        timeline: Timeline | None = None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._gossip = gossip
        self._criterion = criterion
        self._config = config
        self._spanning: Callable[[str], AbstractContextManager[object]] = lambda name: nullcontext()
        if timeline is not None:
            self._spanning = timeline.spanning

    def __call__(self, batch: Batch) -> Tensor | None:
        if not self._model.training:  # train() visits every module
            self._model.train()
        self._optimizer.zero_grad()
        parts = min(self._config.accumulation_steps, len(batch))
        device = batch.targets.device
        batch_loss = torch.zeros((), dtype=torch.float64, device=device)
        skipped = self._gossip.skipped_steps
        try:
            self._compute(batch, parts, batch_loss)
        except NotFinite:
            self.check(float(batch_loss), self._gossip.step + 1)  # on CUDA, it has not been read before
            raise
        return None if self._gossip.skipped_steps > skipped else batch_loss

    def _compute(self, batch: Batch, parts: int, batch_loss: Tensor) -> None:
        """Take the step, in parts, and add their losses to ``batch_loss``."""
        device = batch_loss.device
        for number, part in enumerate(batch.split(parts), start=1):
            with self._spanning("forward"), autocast(device, self._config.precision):
                outputs = self._model(*part.inputs)
                loss = self._criterion(outputs, part.targets) * (part.count / batch.count)
            batch_loss += loss.detach()
            if self._config.nonfinite is Nonfinite.skip:
                if not math.isfinite(float(loss.detach())):
                    loss = loss * math.nan  # so is every gradient, and all workers skip the step
            elif device.type == "cpu":
                self.check(float(loss.detach()), self._gossip.step + 1)
            with self._spanning("backward"), self._gossip.no_sync() if number < parts else nullcontext():
                loss.backward()
        if self._config.clip_norm is not None and not self._gossip.steps_in_backward:
            self._gossip.clip_grad_norm_(self._config.clip_norm)
        with self._spanning("optimizer and gossip"):
            self._optimizer.step()

    def check(self, loss: float, step: int) -> None:
        """Raise TrainingDiverged if the loss is not finite."""
        if not math.isfinite(loss):
            raise diverged(loss, step, self._gossip.rank)


def diverged(loss: float, step: int, rank: int) -> TrainingDiverged:
    """Return the error to raise for a loss that is not finite."""
    message = (
        f"loss is {loss} at step {step} on rank {rank}: try a smaller learning rate, a warm-up or training.clip_norm"
    )
    return TrainingDiverged(message, rank=rank, step=step, tensor="loss")
