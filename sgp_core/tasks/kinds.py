"""The kinds of tasks: their names, their scores, and the words that messages use for them. Imports without torch."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sgp_core.errors import ConfigurationError
from sgp_core.metrics import Direction, Metric
from sgp_core.registry import Registry
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.models import MODELS

if TYPE_CHECKING:
    from sgp_core.tasks.datasets import Dataset
    from sgp_core.tasks.models import Model

K = TypeVar("K", bound="type[TaskKind]")


class TaskKind(ABC):
    """What is known of a task before its data are loaded. Stable extension point.

    Register a subclass under the task's name with :func:`register_task`. Its data sets and models name the task in
    their class variable ``task``; :meth:`sgp_core.tasks.datasets.Dataset.load` returns the loaded
    :class:`sgp_core.tasks.base.Task`.
    """

    name: ClassVar[str]
    """The name under which the task is registered."""
    metrics: ClassVar[tuple[Metric, ...]]
    """Every score that an evaluation returns, ``loss`` among them."""
    score: ClassVar[str]
    """The name of the metric by which evaluations, checkpoints and runs are ranked."""
    unit: ClassVar[str | None] = None
    """What its targets are where examples have many, such as "tokens": rows then say how many of them train a second,
    ``tokens_per_s``, beside the examples."""
    does: ClassVar[str]
    """What its models do, such as "classifies images"."""
    holds: ClassVar[str]
    """What its data sets hold, such as "images to classify"."""

    @property
    def direction(self) -> Direction:
        """Which values of the score are good ones."""
        return next(metric.direction for metric in self.metrics if metric.name == self.score and metric.direction)

    def rank(self, row: Mapping[str, Any] | None) -> float | None:
        """Return the rank of an evaluation, higher is better; None if its score was not measured.

        It is that of the averaged model, else that of the mean of the replicas.
        """
        for name in (self.score, f"{self.score}_local_mean"):
            if row and row.get(name) is not None:
                return float(row[name]) if self.direction is Direction.maximize else -float(row[name])
        return None


TASKS: Registry[TaskKind] = Registry("task", "sgp_core.tasks.*.kind", options=False)
"""Every kind of task by name. A new one is one folder in this package, or a user's own module."""


def register_task(name: str) -> Callable[[K], K]:
    """Class decorator: make a kind of task known under ``name``.

    Raises:
        ValueError: the name is taken, or the score is not among the metrics or has no direction.
    """

    def add(cls: K) -> K:
        if not any(metric.name == cls.score and metric.direction for metric in cls.metrics):
            raise ValueError(f"task '{name}': its score '{cls.score}' must be one of its metrics, with a direction")
        cls.name = name
        TASKS.register(name)(cls)
        return cls

    return add


def task_kind_of(dataset: str) -> TaskKind:
    """Return the kind of task that the data set registered as ``dataset`` is for.

    Raises:
        ConfigurationError: there is no such data set.
    """
    return TASKS.get(DATASETS.get(dataset).task)()


def check_task(model: Model, dataset: Dataset) -> None:
    """Refuse a model that is for another task than the data set.

    Raises:
        ConfigurationError: with the models that fit.
    """
    if model.task == dataset.task:
        return
    fitting = [name for name in MODELS.names() if MODELS.get(name).task == dataset.task]
    raise ConfigurationError(
        f"model '{MODELS.name_of(type(model))}' {TASKS.get(model.task).does}, but dataset "
        f"'{DATASETS.name_of(type(dataset))}' is {TASKS.get(dataset.task).holds}; use model={' or '.join(fitting)}"
    )
