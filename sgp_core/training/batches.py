"""The training batches of one worker, as a function of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sgp_core.tasks.base import Batch, BatchSampler, Task
from sgp_core.training.assembly import TrainingParts
from sgp_core.training.config import LoaderConfig
from sgp_core.training.elastic import ElasticSampler
from sgp_core.training.loader import Loader
from sgp_core.training.randomness import data_generator
from sgp_core.training.virtual.batches import WorkersBatch, WorkersBatches


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
        self._epoch: tuple[int, Sequence[Tensor]] = (-1, [])
        """The latest epoch and the examples of each of its batches."""

    def __call__(self, step: int) -> Batch:
        epoch, number = divmod(step, self._sampler.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._sampler.indices(epoch))
        return self._task.batch(self._epoch[1][number], data_generator(self._seed, self._rank, step))


class BatchSource:
    """The batches of one worker, in turn, made ahead of need.

    Args:
        parts: whose task makes batches of the examples that the sampler says.
        seed, total_steps: of the run.
        loader: how batches are made ahead.
    """

    def __init__(self, parts: TrainingParts, seed: int, total_steps: int, loader: LoaderConfig) -> None:
        self._task, self._sampler, self._samplers = parts.task, parts.sampler, parts.samplers
        self._seed, self._rank = seed, parts.gossip.rank
        self._apart = parts.gossip.asynchronous  # virtual workers are then at steps of their own
        self._total_steps = total_steps
        self._loader = loader
        self._batches: Loader | None = None

    def begin(self, step: int) -> None:
        """Begin with the batch of ``step``."""
        self.close()
        make: Callable[[int], Any] = TrainingBatches(self._task, self._sampler, self._seed, self._rank)
        if self._samplers and not self._apart:
            of_workers = [TrainingBatches(self._task, one, self._seed, at) for at, one in enumerate(self._samplers)]
            make = WorkersBatches(of_workers)
        steps = range(step, self._total_steps)
        self._batches = Loader(make, steps, self._loader.number(self._task.slow), self._loader.ahead)

    def next(self, step: int) -> Batch | WorkersBatch:
        """Return the batch of ``step``, the one that is next. In an elastic run, examples may be dealt anew before."""
        if self._batches is None or (isinstance(self._sampler, ElasticSampler) and self._sampler.deal(step)):
            self.begin(step)
        assert self._batches is not None
        return next(self._batches)

    def close(self) -> None:
        """End the processes that make batches."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None
