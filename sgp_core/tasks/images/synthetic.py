"""A split of images that are computed from their index."""

from __future__ import annotations

import torch
from torch import Tensor

from sgp_core.tasks.images.prepare import Preparation

_CELLS = 7
"""Height and width of a pattern, in coloured cells."""
_STEPS = (7919, 104729)
"""How far the window on the noise moves from one image to the next, down and right: primes, so that windows differ."""
_SEED = 2019


class Patterns:
    """The ingredients of all images: a coarse pattern for each class, and a field of noise of which each shows a part.

    Args:
        size: height and width of an image.
        classes: number of patterns.
    """

    def __init__(self, size: int, classes: int) -> None:
        generator = torch.Generator().manual_seed(_SEED)
        self.size = size
        self.coarse = torch.randint(128, (classes, 3, _CELLS, _CELLS), generator=generator, dtype=torch.uint8)
        self.noise = torch.randint(128, (3, 2 * size, 2 * size), generator=generator, dtype=torch.uint8)
        self.cell = torch.arange(size) * _CELLS // size
        """Which cell of a pattern each row, and each column, of an image lies in."""
        self.preparation = Preparation([0.5] * 3, [0.25] * 3)


class SyntheticExamples:
    """Images ``first`` to ``first + count``: their class is their number modulo the number of classes."""

    def __init__(self, patterns: Patterns, first: int, count: int) -> None:
        self.patterns = patterns
        self.first = first
        self.targets = torch.arange(first, first + count) % len(patterns.coarse)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised inputs ``[B, 3, size, size]`` and targets ``[B]``; there is no augmentation."""
        patterns, size, targets = self.patterns, self.patterns.size, self.targets.index_select(0, indices)
        rows = patterns.coarse[targets].index_select(2, patterns.cell)
        images = rows.index_select(3, patterns.cell)
        for image, number in zip(images, (indices + self.first).tolist(), strict=True):
            top, left = (number * step % (size + 1) for step in _STEPS)
            image += patterns.noise[:, top : top + size, left : left + size]
        return patterns.preparation(images, None), targets
