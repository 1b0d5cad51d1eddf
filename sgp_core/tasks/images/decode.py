"""From the bytes of an image file to pixels of one size."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from sgp_core.errors import ConfigurationError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


def decode(data: bytes, size: int, where: str, part: float = 1.0) -> np.ndarray:
    """Return RGB pixels, uint8 ``[3, size, size]``, of the middle square of an image.

    Args:
        data: the file.
        size: height and width wanted; an image that has them already is taken as it is.
        where: what to call the file in an error.
        part: side of the square as a part of the shorter side of the image.

    Raises:
        ConfigurationError: the bytes are no image.
    """

    def middle(width: int, height: int) -> Box:
        side = min(width, height) * part
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    return decode_part(data, size, where, middle)


def decode_part(data: bytes, size: int, where: str, box: Callable[[int, int], Box]) -> np.ndarray:
    """As :func:`decode`, of the part of the image that ``box(width, height)`` names."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            full = image.size
            part = box(*full)
            # JPEG can decode to a fraction of the size for much less work; twice what is needed keeps it sharp
            shrink = min(part[2] - part[0], part[3] - part[1]) / (2 * size)
            if shrink >= 2:
                image.draft("RGB", (int(full[0] / shrink), int(full[1] / shrink)))
            scale_x, scale_y = image.size[0] / full[0], image.size[1] / full[1]
            pixels = image if image.mode == "RGB" else image.convert("RGB")
            scaled = (part[0] * scale_x, part[1] * scale_y, part[2] * scale_x, part[3] * scale_y)
            if pixels.size != (size, size) or scaled != (0, 0, size, size):
                pixels = pixels.resize((size, size), Image.Resampling.BILINEAR, box=scaled)
            return np.asarray(pixels).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigurationError(f"{where} is not a readable image: {error}") from error
