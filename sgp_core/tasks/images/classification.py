"""Classifying images: cross entropy, accuracy among the best one and the best five."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sgp_core.tasks.base import Batch, Task
from sgp_core.tasks.images.models.base import ImageModel
from sgp_core.tasks.models import Model
from sgp_core.tasks.sharding import ExampleSampler


class Examples(Protocol):
    """One split of images: examples that are addressed by index and come out as batches."""

    @property
    def targets(self) -> Tensor:
        """The class of every example, int64 ``[N]``."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return the examples at ``indices`` (int64 ``[B]``) as CPU tensors.

        Args:
            indices: which examples, in which order.
            generator: source of every random number of augmentation; None means no augmentation.

        Returns:
            Normalised float32 inputs ``[B, C, H, W]`` and int64 targets ``[B]``.
        """


@dataclass(frozen=True)
class ImageClassification(Task):
    """A loaded data set of images ``[C, H, W]``, each of one class. Models return logits ``[B, num_classes]``."""

    statistics_size: ClassVar = 4

    train: Examples
    validation: Examples
    num_classes: int
    example_shape: tuple[int, int, int]
    """Channels, height, width of one input."""
    slow: bool = False
    """Whether images are decoded for each batch."""

    @property
    def labels(self) -> Tensor:
        """Return the class of every training image."""
        return self.train.targets

    def share(self, world_size: int, rank: int, batch_size: int, seed: int) -> ExampleSampler:
        """Return every ``world_size``-th example of an order that is new in each epoch."""
        return ExampleSampler(len(self.train), world_size, rank, batch_size, seed)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """Return normalised float32 images ``[B, C, H, W]`` and int64 targets ``[B]``."""
        images, targets = self.train.batch(indices, generator)
        return Batch((images,), targets)

    def build(self, model: Model) -> nn.Module:
        """Return a new classifier for these images."""
        assert isinstance(model, ImageModel), "refused by check_task"
        return model.build(self.example_shape, self.num_classes)

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the mean cross entropy, with label smoothing as in Szegedy et al. (2016)."""
        return cross_entropy(outputs.float(), targets, label_smoothing=smoothing)

    def validation_share(self, rank: int, world_size: int, batch_size: int) -> Sequence[Tensor]:
        """Return every ``world_size``-th image."""
        indices = torch.arange(rank, len(self.validation), world_size)
        return indices.split(batch_size) if len(indices) else ()

    def validation_batch(self, indices: Tensor) -> Batch:
        """Return normalised float32 images ``[B, C, H, W]`` and int64 targets ``[B]``."""
        images, targets = self.validation.batch(indices)
        return Batch((images,), targets)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return summed loss, number of correct and of top-5 correct predictions, and number of images."""
        logits = outputs.float()
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices.eq(targets[:, None])
        count = torch.tensor(len(targets), device=logits.device)
        loss = cross_entropy(logits, targets, reduction="sum")
        return torch.stack([part.double() for part in (loss, top[:, 0].sum(), top.sum(), count)])

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Return means over images."""
        loss, correct, in_top5, count = sums
        return {"loss": loss / count, "accuracy": correct / count, "top5_accuracy": in_top5 / count}

    def describe(self) -> dict[str, Any]:
        """Return the shape of an input and the number of classes."""
        return {"example_shape": list(self.example_shape), "num_classes": self.num_classes}
