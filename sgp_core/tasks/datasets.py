"""What a data set is: named options that load into a task. Importing it reads no data and does not import torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sgp_core.registry import Registry

if TYPE_CHECKING:
    from sgp_core.tasks.base import Task

DATASETS: Registry[Dataset] = Registry("dataset", "sgp_core.tasks.*.datasets")
"""Every data set by name. A new one is one file in ``datasets`` of its task's folder."""


@dataclass(frozen=True)
class Blueprint:
    """What a model is built for, known without reading the data.

    Attributes:
        facts: arguments of the ``build`` of the task's models, such as ``{"features": 10}``.
        inputs: dtype and shape of each argument of the model in one training step.
    """

    facts: Mapping[str, Any]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]


NOT_IDENTITY = {"identity": False}
"""Field metadata for options that say where or how data are found, not which experiment is run."""


@dataclass(frozen=True)
class Dataset(ABC):
    """Options of a data set. Creating one is cheap; :meth:`load` does the work. Stable extension point."""

    task: ClassVar[str]
    """Name of the task it is for, as registered in :data:`sgp_core.tasks.kinds.TASKS`."""
    labelled: ClassVar[bool] = False
    """Whether every training example is of one class, so that partitions can go by it."""

    def check(self) -> None:
        """Refuse early, without torch, if the data are not there.

        Raises:
            ConfigurationError: one sentence that names the command which gets them.
        """

    def check_training(self, options: Mapping[str, Any]) -> None:
        """Refuse training options that mean nothing for such data.

        Raises:
            ConfigurationError: one sentence that names what is to be used instead.
        """

    def blueprint(self, batch_size: int) -> Blueprint | None:
        """Return what a model is built for; None where only the data tell.

        Args:
            batch_size: examples of a worker and step.
        """
        return None

    @abstractmethod
    def load(self) -> Task:
        """Read the data.

        Raises:
            ConfigurationError: the data are missing, damaged or not what was asked for.
        """
