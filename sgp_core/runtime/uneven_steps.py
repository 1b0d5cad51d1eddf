"""Steps of workers whose batches run out at different times: who has none left takes part without an update of its own.

The idea is that of ``torch.distributed.algorithms.join.Join``, which DistributedDataParallel uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import torch

from sgp_core.runtime.global_collectives import GlobalCollectives


class StepEvent(IntEnum):
    """What workers do together. The place of its flag in the announcement."""

    gradients = 0
    """They average gradients, as backward ends."""
    step = 1
    """They take a step."""
    clip = 2
    """They clip gradients by a norm, which is announced as well."""


class Announcements:
    """Lets workers that have batches left announce what they are about to do, and those without know of it.

    Each announcement is a maximum over all workers of a few numbers: flags, a norm, and the learning rates, with which
    the workers without batches go on.

    Args:
        workers: all of them.
        optimizers: the user's.
        device: where the process group wants tensors to be.
    """

    def __init__(
        self, workers: GlobalCollectives, optimizers: Sequence[torch.optim.Optimizer], device: torch.device
    ) -> None:
        self._workers = workers
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self._device = device

    def announce(self, event: StepEvent, norm: float = 0.0) -> None:
        """Announce ``event``, which follows. Collective.

        Raises:
            RuntimeError: other workers announce another one.
        """
        flags = [float(event == one) for one in StepEvent]
        self._exchange([*flags, norm, *(float(group["lr"]) for group in self._groups)])

    def next_event(self) -> tuple[StepEvent, float] | None:
        """Return what the others announce, and a norm; None once no worker has batches left. Collective.

        The optimizer has their learning rates then.

        Raises:
            RuntimeError: they do not announce the same.
        """
        event, norm, rates = self._exchange([0.0] * (len(StepEvent) + 1 + len(self._groups)))
        if event is None:
            return None
        for group, rate in zip(self._groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        return event, norm

    def _exchange(self, numbers: list[float]) -> tuple[StepEvent | None, float, list[float]]:
        values = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        found = self._workers.maximum(values).tolist()
        events = [event for event in StepEvent if found[event]]
        if len(events) > 1:
            raise RuntimeError(
                "inside gossip.join(), workers with batches left must call backward(), clip_grad_norm_() and"
                " optimizer.step() equally often and in the same order"
            )
        return (events[0] if events else None), found[len(StepEvent)], found[len(StepEvent) + 1 :]
