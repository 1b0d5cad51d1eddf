"""Batches of pairs of similar length, so that there is little padding. Every rank computes them alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenSampler:
    """The batches of ``rank`` of ``world_size`` workers, each of at most ``max_tokens`` with padding.

    Pairs are sorted by length, those of equal length in an order that is new in each epoch, and cut into groups of
    consecutive pairs: as many for each worker as fit into its budget. The pairs of a group are dealt to the workers
    at random and the groups are shuffled. So in a step all workers have equally many pairs, of like length; and as
    the sorted lengths are the same in every epoch, so are the cuts and with them the number of steps.

    No pair is used twice in an epoch. Left out are pairs that are longer than ``longest`` and, where the others do
    not divide by the number of workers, the remainder: at most ``world_size - 1``, of a length that many have, drawn
    anew in each epoch.

    Args:
        sources: tokens of each source, int64 ``[N]``.
        targets: tokens of each target, int64 ``[N]``.
        max_tokens: pairs of a batch times the longer of its longest source and longest target.
        longest: of a source or target that trains, at most ``max_tokens``.

    Raises:
        ConfigurationError: fewer pairs than workers.
    """

    sources: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    world_size: int
    rank: int
    max_tokens: int
    longest: int
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self._usable) < self.world_size:
            raise ConfigurationError(
                f"{len(self._usable)} pairs of sentences cannot be shared by {self.world_size} workers: use fewer "
                f"workers, more data, or a larger dataset.max_length than {self.longest}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch, the same on every rank."""
        return len(self._cuts) - 1

    @property
    def left_out(self) -> int:
        """How many pairs no worker sees in an epoch."""
        return len(self.sources) - int(self._cuts[-1])

    def indices(self, epoch: int) -> list[Tensor]:
        """Return this rank's batches of ``epoch``: int64 index tensors, ``steps_per_epoch`` of them."""
        import torch

        dice = np.random.default_rng([self.seed, epoch])
        order = np.delete(self._sort_by_length(dice.permutation(self._usable)), self._remainder)
        batches = []
        for begin, end in zip(self._cuts[:-1], self._cuts[1:], strict=True):
            dealt = dice.permutation(order[begin:end])
            batches.append(torch.from_numpy(dealt[self.rank :: self.world_size].copy()))
        return [batches[step] for step in dice.permutation(len(batches))]

    @cached_property
    def _usable(self) -> np.ndarray:
        return np.flatnonzero(self._lengths <= self.longest)

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.maximum(self.sources, self.targets)

    def _sort_by_length(self, pairs: np.ndarray) -> np.ndarray:
        """Return pairs by the longer side, then by the source; equally long ones stay in order."""
        return pairs[np.lexsort((self.sources[pairs], self._lengths[pairs]))]

    @cached_property
    def _remainder(self) -> slice:
        """Which places of the sorted pairs are left out, so that the rest divides by the workers: in the middle."""
        count = len(self._usable) % self.world_size
        begin = (len(self._usable) - count) // 2
        return slice(begin, begin + count)

    @cached_property
    def _cuts(self) -> np.ndarray:
        """Where groups begin in the sorted pairs without the remainder, and where the last ends."""
        order = np.delete(self._sort_by_length(self._usable), self._remainder)
        # As many at a time as there are workers; the last of those is the longest.
        longest = self._lengths[order[self.world_size - 1 :: self.world_size]].tolist()
        cuts = [0]
        for row, length in enumerate(longest):
            if (row + 1 - cuts[-1]) * length > self.max_tokens:
                cuts.append(row)
        cuts.append(len(longest))
        return np.array(cuts) * self.world_size
