"""One optimizer step of one worker: forward, backward, clipping, step. Gossip happens inside ``optimizer.step()``."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sgp_core.gossip import Gossip
from sgp_core.timeline import Timeline
from sgp_core.training.config import Precision, TrainingConfig


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number; the message names step and rank."""


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which forward passes run."""
    if precision is Precision.fp32:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def placed(inputs: Tensor, device: torch.device, config: TrainingConfig) -> Tensor:
    """Return a batch of inputs on the device, in the memory order the model wants."""
    order = torch.channels_last if config.channels_last and inputs.ndim == 4 else torch.contiguous_format
    return inputs.to(device, non_blocking=True).contiguous(memory_format=order)


class TrainingStep:
    """Callable that moves the model by one batch and returns its mean loss, a scalar tensor on the device.

    A batch is computed in ``accumulation_steps`` parts, each weighted by its share of the examples, so the gradient is
    that of the whole batch; clipping acts on the global norm of that gradient.

    Raises:
        TrainingDiverged: the loss is nan or infinite (seen at once on the CPU; on CUDA when the loss is read).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        gossip: Gossip,
        config: TrainingConfig,
        timeline: Timeline | None = None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._gossip = gossip
        self._config = config
        self._spanning: Callable[[str], AbstractContextManager[object]] = lambda name: nullcontext()
        if timeline is not None:
            self._spanning = timeline.spanning

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        if not self._model.training:  # train() visits every module
            self._model.train()
        self._optimizer.zero_grad()
        parts = min(self._config.accumulation_steps, len(targets))
        batch_loss = torch.zeros((), dtype=torch.float64, device=targets.device)
        split = zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
        for part, (some_inputs, some_targets) in enumerate(split, start=1):
            with self._spanning("forward"), autocast(targets.device, self._config.precision):
                loss = self._loss(self._model(some_inputs), some_targets) * (len(some_targets) / len(targets))
            batch_loss += loss.detach()
            if targets.device.type == "cpu":
                self.check(float(loss.detach()), self._gossip.step + 1)
            with self._spanning("backward"), self._gossip.no_sync() if part < parts else nullcontext():
                loss.backward()
        if self._config.clip_norm is not None and not self._gossip.steps_in_backward:
            self._gossip.clip_grad_norm_(self._config.clip_norm)
        with self._spanning("optimizer and gossip"):
            self._optimizer.step()
        return batch_loss

    def check(self, loss: float, step: int) -> None:
        """Refuse a loss that is not a finite number."""
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"loss is {loss} at step {step} on rank {self._gossip.rank}: "
                "try a smaller learning rate, a warm-up or training.clip_norm"
            )

    @property
    def _loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        smoothing = self._config.label_smoothing
        return lambda logits, targets: cross_entropy(logits.float(), targets, label_smoothing=smoothing)
