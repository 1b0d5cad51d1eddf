"""The task protocol: batches, loss, evaluation and scores of a loaded data set. Imports without torch."""

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
"""The split that is evaluated during training."""


@dataclass(frozen=True)
class Batch:
    """The examples of one step or one forward pass. The model computes ``model(*inputs)``, to be like ``targets``."""

    inputs: tuple[Tensor, ...]
    """Arguments of the model, each ``[B, ...]``."""
    targets: Tensor
    """``[B, ...]``."""
    counts: Tensor | None = None
    """Number of targets of each example, int64 ``[B]`` on the CPU; None: one each."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)

    @property
    def count(self) -> int:
        """Number of targets in the batch, over which its mean loss is taken."""
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

        def place(tensor: Tensor) -> Tensor:
            if device.type == "cuda":
                tensor = tensor.pin_memory()  # copies from pageable memory block the host
            order = torch.channels_last if channels_last and tensor.ndim == 4 else torch.contiguous_format
            return tensor.to(device, non_blocking=True).contiguous(memory_format=order)

        return Batch(tuple(map(place, self.inputs)), self.targets.to(device, non_blocking=True), self.counts)


class BatchSampler(Protocol):
    """Which examples one worker trains on. Every worker computes this without communication."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch, the same on every rank."""

    def indices(self, epoch: int) -> Sequence[Tensor]:
        """Return this rank's batches of ``epoch``: int64 index tensors, ``steps_per_epoch`` of them."""


class Task(ABC):
    """A loaded data set with its batches, loss and scores. Stable extension point.

    Tasks of single examples with one target each best start from :class:`sgp_core.tasks.examples.ExampleTask`. A
    model's ``forward`` takes ``Batch.inputs``; its outputs go to :meth:`loss` and :meth:`statistics`.
    """

    statistics_size: ClassVar[int]
    """Length of what :meth:`statistics` returns."""

    @property
    def slow(self) -> bool:
        """Whether making a batch is slow, for example because files are decoded; loader processes then make them."""
        return False

    @property
    def labels(self) -> Tensor | None:
        """Return the class of every training example, int64 ``[N]``; None where examples have none."""
        return None

    @abstractmethod
    def sampler(self, world_size: int, rank: int, batch_size: int, seed: int) -> BatchSampler:
        """Return the batches that ``rank`` trains on.

        Raises:
            ConfigurationError: too few examples for so many workers.
        """

    @abstractmethod
    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """Return training examples on the CPU.

        Args:
            indices: of the examples, int64 ``[B]``, out of :meth:`sampler`.
            generator: source of every random number of augmentation; None: no augmentation.
        """

    @abstractmethod
    def build(self, model: Model) -> nn.Module:
        """Return a new model for these data from its options, initialised from torch's global random state."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the mean training loss over targets, a scalar.

        Args:
            smoothing: part of the target probability that is spread evenly (label smoothing), 0 to below 1.
        """

    @abstractmethod
    def validation_indices(self, rank: int, world_size: int, batch_size: int) -> Sequence[Tensor]:
        """Return the validation batches that ``rank`` scores: int64 index tensors of at most ``batch_size`` each."""

    @abstractmethod
    def validation_batch(self, indices: Tensor) -> Batch:
        """Return validation examples out of :meth:`validation_indices`, on the CPU."""

    @abstractmethod
    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return sums over the batch from which :meth:`scores` computes, float64 ``[statistics_size]``.

        They are added up over batches and workers.
        """

    @abstractmethod
    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the scores, ``loss`` among them, by name, from the total of :meth:`statistics`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the facts of the data that :meth:`build` uses. Exported models record them, to be rebuilt later."""

    def flops_per_example(self, model: nn.Module) -> float | None:
        """Return the floating point operations of forward and backward for one training example; None where unknown.

        They are those that ``model``, made by :meth:`build`, cannot do without. Rows then say which share of the
        device's peak is used: ``mfu``.
        """
        return None

    @property
    def generated_splits(self) -> tuple[str, ...]:
        """Splits, ``val`` and tests, on which the model is scored by what it generates; none by default.

        Generation takes long: ``evaluation.generate`` says when. Only the averaged model generates.
        """
        return ()

    def generate(self, model: nn.Module, split: str, rank: int, world_size: int) -> list[float]:
        """Let the model generate for ``rank``'s part of a split; return statistics that add up over workers."""
        raise NotImplementedError

    def generation_scores(self, sums: Sequence[float]) -> dict[str, Any]:
        """Return the scores from sums of :meth:`generate`."""
        raise NotImplementedError

    def state(self) -> dict[str, str]:
        """Return facts that must be the same when a checkpoint is resumed, such as the hash of a vocabulary."""
        return {}

    def content(self) -> dict[str, Any]:
        """Return facts that tell these data from other ones: numbers by their names, and a hash as ``content``.

        They are kept with a run. When it is resumed with other data, it says so. What is slow to compute may be left
        out; rank 0 alone asks.
        """
        return {}

    def export(self, folder: Path) -> None:
        """Write the files that an exported model in ``folder`` needs beside it; none by default."""
