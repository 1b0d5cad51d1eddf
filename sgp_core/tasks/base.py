"""What training needs to know of what is learned: a task, loaded, says the rest. Imports without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sgp_core.tasks.models import Model


VALIDATION = "val"
"""The split that is looked at while training."""


@dataclass(frozen=True)
class Batch:
    """What a worker learns from in one step, or scores in one forward pass: ``model(*inputs)`` against ``targets``."""

    inputs: tuple[Tensor, ...]
    """Arguments of the model, each ``[B, ...]``."""
    targets: Tensor
    """``[B, ...]``."""
    counts: Tensor | None = None
    """How many targets each example has, int64 ``[B]`` on the CPU; None: one."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)

    @property
    def count(self) -> int:
        """Number of targets: what the mean loss of this batch is a mean of."""
        return len(self) if self.counts is None else int(self.counts.sum())

    def split(self, parts: int) -> Iterator[Batch]:
        """Yield ``parts`` (at most one per example) batches of consecutive examples."""
        parts = min(parts, len(self))
        inputs = zip(*(tensor.tensor_split(parts) for tensor in self.inputs), strict=True)
        targets = self.targets.tensor_split(parts)
        counts = [None] * parts if self.counts is None else self.counts.tensor_split(parts)
        return (Batch(*part) for part in zip(inputs, targets, counts, strict=True))

    def to(self, device: torch.device, *, channels_last: bool = False) -> Batch:
        """Return the batch on a device; inputs of four dimensions in channels-last order if that is asked for."""
        import torch

        def placed(tensor: Tensor) -> Tensor:
            if device.type == "cuda":
                tensor = tensor.pin_memory()  # else the host would wait for the copy
            order = torch.channels_last if channels_last and tensor.ndim == 4 else torch.contiguous_format
            return tensor.to(device, non_blocking=True).contiguous(memory_format=order)

        return Batch(tuple(map(placed, self.inputs)), self.targets.to(device, non_blocking=True), self.counts)


class BatchSampler(Protocol):
    """Which examples one worker trains on: known from the numbers alone, without asking other workers."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch, the same on every rank."""

    def indices(self, epoch: int) -> list[Tensor]:
        """Return this rank's batches of ``epoch``: int64 index tensors, ``steps_per_epoch`` of them."""


class Task(ABC):
    """A loaded data set, and what it means to learn it: batches, loss, scores."""

    statistics_size: ClassVar[int]
    """How many numbers :meth:`statistics` returns."""

    @property
    def slow(self) -> bool:
        """Whether batches take long to make, as where files are decoded: other processes had better make them."""
        return False

    @property
    def labels(self) -> Tensor | None:
        """Return the class of every training example, int64 ``[N]``; None where examples have none."""
        return None

    @abstractmethod
    def share(self, world_size: int, rank: int, batch_size: int, seed: int) -> BatchSampler:
        """Return what ``rank`` trains on.

        Raises:
            ConfigurationError: too few examples for so many workers.
        """

    @abstractmethod
    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """Return training examples on the CPU.

        Args:
            indices: which, int64 ``[B]``, out of :meth:`share`.
            generator: source of every random number of augmentation; None: no augmentation.
        """

    @abstractmethod
    def build(self, model: Model) -> nn.Module:
        """Return a new model for these data from its options, initialised from torch's global random state."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the mean training loss over targets, a scalar.

        Args:
            smoothing: share of the target probability spread evenly.
        """

    @abstractmethod
    def validation_share(self, rank: int, world_size: int, batch_size: int) -> Sequence[Tensor]:
        """Return which validation examples ``rank`` scores: int64 index tensors of at most ``batch_size`` each."""

    @abstractmethod
    def validation_batch(self, indices: Tensor) -> Batch:
        """Return validation examples out of :meth:`validation_share`, on the CPU."""

    @abstractmethod
    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return numbers that add up over batches and workers, float64 ``[statistics_size]``."""

    @abstractmethod
    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the scores, ``loss`` among them, from sums of :meth:`statistics`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what :meth:`build` knows of the data: with the model's options, a model can be rebuilt from it."""

    @property
    def generated_splits(self) -> tuple[str, ...]:
        """Splits that a model is scored on by what it generates, which takes long: ``val`` and tests; none by default.

        Only the averaged model generates, when ``evaluation.generate`` says so.
        """
        return ()

    def generate(self, model: nn.Module, split: str, rank: int, world_size: int) -> list[float]:
        """Let the model generate for ``rank``'s part of a split; return statistics that add up over workers."""
        raise NotImplementedError

    def generation_scores(self, sums: Sequence[float]) -> dict[str, Any]:
        """Return the scores from sums of :meth:`generate`."""
        raise NotImplementedError

    def state(self) -> dict[str, str]:
        """Return what a checkpoint must agree with to be of use, such as a vocabulary's hash."""
        return {}

    def export(self, folder: Path) -> None:
        """Write the files, if any, without which an exported model in ``folder`` is of no use."""
