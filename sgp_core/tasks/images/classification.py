"""Classifying images: cross entropy, accuracy among the best one and the best five."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sgp_core.tasks.examples import ExampleTask
from sgp_core.tasks.images.models.base import ImageModel
from sgp_core.tasks.models import Model


@dataclass(frozen=True)
class ImageClassification(ExampleTask):
    """A loaded data set of images ``[C, H, W]``, each of one class. Models return logits ``[B, num_classes]``."""

    statistics_size: ClassVar = 4

    num_classes: int
    example_shape: tuple[int, int, int]
    """Channels, height, width of one input."""
    slow: bool = False
    """Whether images are decoded for each batch."""
    digest: Callable[[], str] | None = None
    """Computes a hash of the images; None: they are made, not read."""

    @property
    def labels(self) -> Tensor:
        """Return the class of every training image."""
        return self.train.targets

    def build(self, model: Model) -> nn.Module:
        """Return a new classifier for these images."""
        assert isinstance(model, ImageModel), "refused by check_task"
        return model.build(self.example_shape, self.num_classes)

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the mean cross entropy, with label smoothing as in Szegedy et al. (2016)."""
        return cross_entropy(outputs.float(), targets, label_smoothing=smoothing)

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

    def content(self) -> dict[str, Any]:
        """Return the numbers of images, and a hash."""
        return super().content() | ({"content": self.digest()} if self.digest is not None else {})

    def describe(self) -> dict[str, Any]:
        """Return the shape of an input and the number of classes."""
        return {"example_shape": list(self.example_shape), "num_classes": self.num_classes}
