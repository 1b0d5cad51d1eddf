"""The training batches of one worker, as a function of the step."""

from __future__ import annotations

from torch import Tensor

from sgp_core.tasks.base import Batch, BatchSampler, Task
from sgp_core.training.randomness import data_generator


class TrainingBatches:
    """Callable that returns the batch of a step, on the CPU.

    Examples and augmentation follow from (seed, rank, step) alone: the process that makes a batch, the
    batches made before and the step a run was resumed at do not change a bit of it.
    """

    def __init__(self, task: Task, sampler: BatchSampler, seed: int, rank: int) -> None:
        self._task = task
        self._sampler = sampler
        self._seed = seed
        self._rank = rank
        self._epoch: tuple[int, list[Tensor]] = (-1, [])
        """The latest epoch and the examples of each of its batches."""

    def __call__(self, step: int) -> Batch:
        epoch, number = divmod(step, self._sampler.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._sampler.indices(epoch))
        return self._task.batch(self._epoch[1][number], data_generator(self._seed, self._rank, step))
