"""A split whose images are decoded when they are needed, because together they are too large for memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from sgp_core.tasks.images.decode import decode, decode_part
from sgp_core.tasks.images.prepare import Preparation
from sgp_core.tasks.images.source import Source

_TRIES = 10
"""Random parts drawn per image before the middle of it is taken, as torchvision's RandomResizedCrop does."""
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_MIDDLE = 0.875
"""Part of the shorter side that evaluation sees where training sees random parts (224 of 256)."""
_THREADS = 8


class ImagesInFiles:
    """Images of any size, decoded and resized per batch by a few threads.

    Args:
        source: where the files are.
        names: files in ``source``.
        targets: int64 ``[N]``.
        preparation: makes inputs of the decoded images.
        size: height and width of inputs.
        random_parts: augment by resizing a random part of the original to ``size`` (Szegedy et al. 2015), and
            evaluate on its middle.
    """

    def __init__(
        self,
        source: Source,
        names: Sequence[str],
        targets: Tensor,
        preparation: Preparation,
        size: int,
        random_parts: bool,
    ) -> None:
        self.source = source
        self.names = names
        self.targets = targets
        self.preparation = preparation
        self.size = size
        self.random_parts = random_parts
        self._pool = ThreadPoolExecutor(min(_THREADS, len(os.sched_getaffinity(0))))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised inputs ``[B, 3, size, size]`` and targets ``[B]``; see ``Examples.batch``."""
        names = [self.names[index] for index in indices.tolist()]
        if self.random_parts and generator is not None:
            # drawn for the whole batch at once: the numbers used do not depend on threads or on image sizes
            draws = torch.rand(len(names), _TRIES, 4, generator=generator, dtype=torch.float64).numpy()
            images = list(self._pool.map(self._random_part, names, draws))
        else:
            images = list(self._pool.map(self._whole, names))
        batch = torch.from_numpy(np.stack(images))
        return self.preparation(batch, generator), self.targets.index_select(0, indices)

    def _whole(self, name: str) -> np.ndarray:
        part = _MIDDLE if self.random_parts else 1.0
        return decode(self.source.read(name), self.size, self.source.where(name), part)

    def _random_part(self, name: str, draws: np.ndarray) -> np.ndarray:
        def box(width: int, height: int) -> tuple[float, float, float, float]:
            return random_box(width, height, draws)

        return decode_part(self.source.read(name), self.size, self.source.where(name), box)


def random_box(width: int, height: int, draws: np.ndarray) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of a random part of an image, in pixels.

    Args:
        width: of the image.
        height: of the image.
        draws: uniform numbers ``[tries, 4]``; the first try whose part fits into the image is used.
    """
    for area, aspect, x, y in draws:
        target = width * height * (_AREA[0] + area * (_AREA[1] - _AREA[0]))
        ratio = _ASPECT[0] * (_ASPECT[1] / _ASPECT[0]) ** aspect  # uniform in the logarithm
        part_width, part_height = (target * ratio) ** 0.5, (target / ratio) ** 0.5
        if part_width <= width and part_height <= height:
            left, top = x * (width - part_width), y * (height - part_height)
            return left, top, left + part_width, top + part_height
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
