"""Metrics of image classification beside accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.metrics import Direction, Metric
from sgp_core.tasks.evaluation_metrics import METRICS, EvaluationMetric
from sgp_core.tasks.images.kind import TASK
from sgp_core.validation import at_least

if TYPE_CHECKING:
    from torch import Tensor


@METRICS.register("calibration_error")
@dataclass(frozen=True)
class CalibrationError(EvaluationMetric):
    """Expected calibration error (Guo et al. 2017, equation 3): how far confidence is from accuracy, 0 to 1."""

    task: ClassVar = TASK
    metrics: ClassVar = (Metric("calibration_error", Direction.minimize),)
    bins: int = 15
    """Bins of equal width that predictions are sorted into by their confidence."""

    def __post_init__(self) -> None:
        at_least(1, "metric.bins", self.bins)

    @property
    def statistics_size(self) -> int:
        """Number of images, and a sum for each bin."""
        return 1 + self.bins

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the number of images, and for each bin the sum of confidence less correctness."""
        import torch

        confidence, predicted = outputs.float().softmax(1).max(1)
        place = (confidence * self.bins).long().clamp(max=self.bins - 1)
        gaps = torch.zeros(self.bins, dtype=torch.float64, device=outputs.device)
        gaps.index_add_(0, place, confidence.double() - predicted.eq(targets).double())
        return torch.cat([gaps.new_tensor([len(targets)]), gaps])

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the mean over images of the absolute gap of their bin."""
        count, *gaps = sums
        return {"calibration_error": sum(map(abs, gaps)) / count}
