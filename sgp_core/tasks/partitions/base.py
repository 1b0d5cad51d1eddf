"""Partitions: which training examples belong to which worker, as named options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError
from sgp_core.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from sgp_core.tasks.datasets import Dataset

PARTITIONS: Registry[Partition] = Registry("partition", "sgp_core.tasks.partitions")
"""Every partition by name. A new one is one file in this package."""

_STREAM = 0x5A4A2D
"""Separates the random numbers that assign examples to workers from those that order them."""


@dataclass(frozen=True)
class Partition(ABC):  # noqa: B024 - one that assigns nothing is complete
    """How training examples are divided among workers. The base class divides them anew in every epoch.

    Stable extension point.
    """


@dataclass(frozen=True)
class Assigned(Partition):
    """A partition that goes by classes. Every example belongs to one worker for the whole run, and shares are equal.

    Stable extension point.
    """

    def assign(self, labels: np.ndarray, world_size: int, seed: int) -> list[np.ndarray]:
        """Return the examples of every worker: disjoint int64 index arrays, ``world_size`` of them.

        Every worker computes this without communication. Worker ``i`` gets as many examples as
        ``range(i, len(labels), world_size)`` has, so that all make the same number of steps.

        Args:
            labels: class of every training example, ``[N]`` integers.
            world_size: number of workers, at most N.
            seed: of the run.
        """
        import numpy as np

        rng = np.random.default_rng([_STREAM, seed])
        classes, found = np.unique(labels, return_inverse=True)
        stock = np.bincount(found, minlength=len(classes))
        sizes = np.array([len(range(rank, len(labels), world_size)) for rank in range(world_size)])
        order = rng.permutation(len(labels))
        order = order[np.argsort(found[order], kind="stable")]  # by class; in random order within a class
        return self.deal(order, stock, sizes, rng)

    @abstractmethod
    def deal(
        self, order: np.ndarray, stock: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Cut ``order``, all examples sorted by class, into shares.

        Args:
            order: int64 ``[N]``.
            stock: examples of each class, ``[C]``.
            sizes: examples that each worker is to have, ``[n]``; they sum to N.
            rng: source of all randomness.
        """


def check_labels(partition: Partition, dataset: Dataset) -> None:
    """Refuse a partition by classes of data that have none.

    Raises:
        ConfigurationError: with the partition that can be chosen.
    """
    if isinstance(partition, Assigned) and not dataset.labelled:
        from sgp_core.tasks.datasets import DATASETS

        raise ConfigurationError(
            f"partition '{PARTITIONS.name_of(type(partition))}' goes by the classes of examples, and those of dataset "
            f"'{DATASETS.name_of(type(dataset))}' have none; use partition=iid"
        )
