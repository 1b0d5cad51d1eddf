"""Losses for image classification beside cross entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.tasks.images.kind import TASK
from sgp_core.tasks.losses import LOSSES, Loss
from sgp_core.validation import not_negative

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register("focal")
@dataclass(frozen=True)
class FocalLoss(Loss):
    """Focal loss (Lin et al. 2017, equation 4): cross entropy times ``(1 - p)^gamma``, ``p`` that of the true class."""

    task: ClassVar = TASK
    gamma: float = 2.0
    """Focus on examples that are hard to classify; 0 is cross entropy."""

    def __post_init__(self) -> None:
        not_negative("loss.gamma", self.gamma)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over images."""
        from torch.nn.functional import cross_entropy

        entropy = cross_entropy(outputs.float(), targets, reduction="none")
        return ((1 - (-entropy).exp()) ** self.gamma * entropy).mean()
