"""A split whose images are decoded batch by batch, because together they do not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgp_core.tasks.images.decode import decode, decode_middle, decode_part, middle_box
from sgp_core.tasks.images.prepare import Preparation
from sgp_core.tasks.images.source import Source

_TRIES = 10
"""Random parts drawn per image before the middle of it is taken, as torchvision's RandomResizedCrop does."""
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)


class ImagesInFiles:
    """Images of any size, decoded and resized per batch, by as many threads as torch may use in the process.

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
        # One block of memory: reference counts of a million strings would make forked processes copy their pages.
        self._names = np.array([os.fsencode(name) for name in names])
        self.targets = targets
        self.preparation = preparation
        self.size = size
        self.random_parts = random_parts

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised inputs ``[B, 3, size, size]`` and targets ``[B]``; see ``Examples.batch``."""
        names = [os.fsdecode(name) for name in self._names[indices.numpy()]]
        images = torch.empty(len(names), 3, self.size, self.size, dtype=torch.uint8)
        if not self.random_parts:
            _each(self._whole, names, images)
        elif generator is None:
            _each(self._middle, names, images)
        else:
            # drawn for the whole batch at once: the numbers used do not depend on threads or on image sizes
            draws = torch.rand(len(names), _TRIES, 4, generator=generator, dtype=torch.float64).numpy()
            _each(self._random_part, names, images, draws)
        return self.preparation(images, generator), self.targets.index_select(0, indices)

    def _whole(self, name: str, image: Tensor) -> None:
        image.numpy()[:] = decode(self.source.read(name), self.size, self.source.where(name))

    def _middle(self, name: str, image: Tensor) -> None:
        image.copy_(decode_middle(self.source.read(name), self.size, self.source.where(name)))

    def _random_part(self, name: str, image: Tensor, draws: np.ndarray) -> None:
        def box(width: int, height: int) -> tuple[float, float, float, float]:
            return random_box(width, height, draws)

        image.copy_(decode_part(self.source.read(name), self.size, self.source.where(name), box))


def _each(work: Callable[..., None], *arguments: Iterable[Any]) -> None:
    """Call ``work`` for each position of ``arguments``, as ``map`` does, on several threads."""
    threads = torch.get_num_threads()  # one in a loader process, where those of its worker are not
    if threads == 1:
        list(map(work, *arguments))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, *arguments))


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
    return middle_box(width, height)
