"""A task whose data are single examples, each with its target: the base of most tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sgp_core.tasks.base import Batch, Task
from sgp_core.tasks.sharding import ExampleSampler


class Examples(Protocol):
    """One split: examples that are addressed by index and come out as batches."""

    @property
    def targets(self) -> Tensor:
        """The target of every example, ``[N]``; for classification its class, int64."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return the examples at ``indices`` (int64 ``[B]``) as CPU tensors.

        Args:
            indices: which examples, in which order.
            generator: source of every random number of augmentation; None means no augmentation.

        Returns:
            Float32 inputs ``[B, ...]`` and targets ``[B]``.
        """


@dataclass(frozen=True)
class TensorExamples:
    """A split in two tensors: ``inputs``, ``[N, ...]``, and ``targets``, ``[N]``. There is no augmentation."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of the examples at ``indices``."""
        return self.inputs[indices], self.targets[indices]


@dataclass(frozen=True)
class ExampleTask(Task):
    """A task over two splits of examples; subclasses add model, loss and scores. Stable extension point."""

    train: Examples
    validation: Examples

    def sampler(self, world_size: int, rank: int, batch_size: int, seed: int) -> ExampleSampler:
        """Return every ``world_size``-th example of an order that is new in each epoch."""
        return ExampleSampler(len(self.train), world_size, rank, batch_size, seed)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """Return training inputs ``[B, ...]`` and targets ``[B]``."""
        inputs, targets = self.train.batch(indices, generator)
        return Batch((inputs,), targets)

    def validation_indices(self, rank: int, world_size: int, batch_size: int) -> Sequence[Tensor]:
        """Return every ``world_size``-th validation example."""
        indices = torch.arange(len(self.validation))[rank::world_size]  # none where workers outnumber examples
        return indices.split(batch_size) if len(indices) else ()

    def content(self) -> dict[str, Any]:
        """Return the numbers of examples."""
        return {"training examples": len(self.train), "validation examples": len(self.validation)}

    def validation_batch(self, indices: Tensor) -> Batch:
        """Return validation inputs ``[B, ...]`` and targets ``[B]``."""
        inputs, targets = self.validation.batch(indices)
        return Batch((inputs,), targets)
