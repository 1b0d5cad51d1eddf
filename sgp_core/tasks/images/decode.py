"""From the bytes of an image file to pixels of one size."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


def decode(data: bytes, size: int, where: str) -> np.ndarray:
    """Return RGB pixels, uint8 ``[3, size, size]``, of the middle square of an image.

    Args:
        data: the file.
        size: height and width wanted; an image that has them already is taken as it is.
        where: what to call the file in an error.

    Raises:
        ConfigurationError: the bytes are no image.
    """
    with _open_image(data, size, where, middle_box) as (image, box):
        pixels = image.convert("RGB")
        if pixels.size != (size, size) or box != (0, 0, size, size):
            pixels = pixels.resize((size, size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(pixels).transpose(2, 0, 1)


def decode_part(data: bytes, size: int, where: str, box: Callable[[int, int], Box]) -> Tensor:
    """Return the part of an image that ``box(width, height)`` names, in whole pixels, as uint8 ``[3, size, size]``.

    For photographs: torchvision resizes in a third of the time that Pillow takes.

    Raises:
        ConfigurationError: the bytes are no image.
    """
    from torchvision.transforms.v2 import functional

    with _open_image(data, size, where, box) as (image, scaled):
        pixels = functional.pil_to_tensor(image.convert("RGB"))
        left, top, right, bottom = (round(edge) for edge in scaled)
        height, width = max(bottom - top, 1), max(right - left, 1)
        return functional.resized_crop(pixels, top, left, height, width, [size, size], antialias=True)


def decode_middle(data: bytes, size: int, where: str) -> Tensor:
    """Return the middle of an image as most evaluate on ImageNet: 224 pixels of it, its shorter side resized to 256.

    Returns:
        uint8 ``[3, size, size]``.

    Raises:
        ConfigurationError: the bytes are no image.
    """
    from torchvision.transforms.v2 import functional

    with _open_image(data, size, where, middle_box) as (image, _):
        pixels = functional.pil_to_tensor(image.convert("RGB"))
        return functional.center_crop(
            functional.resize(pixels, [round(size * 256 / 224)], antialias=True), [size, size]
        )


def middle_box(width: int, height: int) -> Box:
    """Return the largest square in the middle of an image."""
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


@contextmanager
def _open_image(
    data: bytes, size: int, where: str, box: Callable[[int, int], Box]
) -> Iterator[tuple[Image.Image, Box]]:
    """Yield an image, decoded to a fraction of its size where that is enough, and where the part lies in it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            full = image.size
            part = box(*full)
            # JPEG can decode to a fraction of the size for much less work; twice what is needed keeps it sharp
            shrink = min(part[2] - part[0], part[3] - part[1]) / (2 * size)
            if shrink >= 2:
                image.draft("RGB", (int(full[0] / shrink), int(full[1] / shrink)))
            scale_x, scale_y = image.size[0] / full[0], image.size[1] / full[1]
            yield image, (part[0] * scale_x, part[1] * scale_y, part[2] * scale_x, part[3] * scale_y)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigurationError(f"{where} is not a readable image: {error}") from error
