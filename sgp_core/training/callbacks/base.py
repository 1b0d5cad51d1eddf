"""What a callback is: named options, and methods that the training loop calls."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgp_core.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sgp_core.gossip import Gossip
    from sgp_core.tasks.kinds import TaskKind

CALLBACKS: Registry[Callback] = Registry("callback", "sgp_core.training.callbacks")
"""Every callback by name. A new one is one file in this package, or a user's own module."""


@dataclass
class TrainingProgress:
    """What callbacks see of one worker's training."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    gossip: Gossip
    kind: TaskKind
    rank: int
    world_size: int
    steps_per_epoch: int
    total_steps: int
    """Optimizer steps in the whole run."""
    step: int = 0
    """Optimizer steps completed."""
    stop_requested: bool = False

    def request_stop(self) -> None:
        """Ask to end training as if all steps were done.

        All workers end together: at the evaluation at which, or before which, one of them asked.
        """
        self.stop_requested = True


class Callback(ABC):  # noqa: B024 - a callback overrides the methods that it needs
    """Code that watches the training of one worker. Stable extension point.

    A subclass is a dataclass registered in :data:`CALLBACKS`; its fields are its options. Every worker has its own
    instance. A callback must not communicate with other workers, unless all of them do so at the same step.
    """

    def on_start(self, progress: TrainingProgress) -> None:
        """Training begins, or goes on after a resume: :meth:`load_state` has been called by then."""

    def after_step(self, progress: TrainingProgress) -> None:
        """An optimizer step is complete."""

    def on_evaluation(self, progress: TrainingProgress, scores: Mapping[str, Any]) -> None:
        """The validation set has been scored; ``scores`` are the same on every worker."""

    def on_end(self, progress: TrainingProgress) -> None:
        """All steps are done, or a stop was requested; not called when training fails or is preempted."""

    def state(self) -> dict[str, Any]:
        """Return what a resumed callback needs, as tensors, numbers, strings, lists and dicts of them."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
