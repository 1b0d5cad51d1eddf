"""Losses by name, each of which can take the place of its task's own. Imports without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sgp_core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

LOSSES: Registry[Loss] = Registry("loss", "sgp_core.tasks.*.losses")
"""Every loss by name. A new one is a class in ``losses`` of its task's folder, or in a user's own module."""


@dataclass(frozen=True)
class Loss(ABC):
    """A training loss. Stable extension point.

    Training minimises it instead of :meth:`sgp_core.tasks.base.Task.loss`; the ``loss`` of an evaluation stays the
    task's own, so that runs with different losses can be compared.
    """

    task: ClassVar[str]
    """Name of the task it is for, as registered in :data:`sgp_core.tasks.kinds.TASKS`."""

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over targets, a scalar.

        Args:
            outputs: what the model returned for a batch, ``[B, ...]``.
            targets: ``[B, ...]``, of the task.
        """
