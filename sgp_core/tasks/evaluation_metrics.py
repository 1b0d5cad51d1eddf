"""Metrics by name, which an evaluation computes beside the scores of its task. Imports without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.metrics import Metric
from sgp_core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

METRICS: Registry[EvaluationMetric] = Registry("metric", "sgp_core.tasks.*.metrics")
"""Every metric by name. A new one is a class in ``metrics`` of its task's folder, or in a user's own module."""


@dataclass(frozen=True)
class EvaluationMetric(ABC):
    """A metric of the averaged model on the validation set. Stable extension point."""

    task: ClassVar[str]
    """Name of the task it is for, as registered in :data:`sgp_core.tasks.kinds.TASKS`."""
    metrics: ClassVar[tuple[Metric, ...]]
    """Every score that :meth:`scores` returns."""

    @abstractmethod
    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return numbers of one batch that add up over batches and workers, float64 ``[K]``.

        Args:
            outputs: what the model returned for the batch, ``[B, ...]``.
            targets: ``[B, ...]``, of the task.
        """

    @abstractmethod
    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the scores from sums of :meth:`statistics`, ``K`` numbers."""

    @property
    @abstractmethod
    def statistics_size(self) -> int:
        """Number ``K`` of numbers that :meth:`statistics` returns."""
