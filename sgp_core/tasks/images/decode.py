"""From the bytes of an image file to pixels of one size."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.images.reading import reason_of

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

MOST_PIXELS = 2**30 // 12
"""Pixels of the largest image that is decoded, which takes 270 MB. Pillow warns from there on."""
_PNG = b"\x89PNG\r\n\x1a\n"


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
        pixels = _rgb(image)
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
        pixels = functional.pil_to_tensor(_rgb(image))
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
        pixels = functional.pil_to_tensor(_rgb(image))
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
        check_png(data)
        with Image.open(io.BytesIO(data)) as image:
            full = image.size
            part = box(*full)
            # JPEG can decode to a fraction of the size for much less work; twice what is needed keeps it sharp
            shrink = min(part[2] - part[0], part[3] - part[1]) / (2 * size)
            if shrink >= 2:
                image.draft("RGB", (int(full[0] / shrink), int(full[1] / shrink)))
            if image.size[0] * image.size[1] > MOST_PIXELS:
                most = f"{MOST_PIXELS // 10**6} million"
                raise ConfigurationError(f"{where} has {full[0]} x {full[1]} pixels, more than {most}: make it smaller")
            scale_x, scale_y = image.size[0] / full[0], image.size[1] / full[1]
            yield image, (part[0] * scale_x, part[1] * scale_y, part[2] * scale_x, part[3] * scale_y)
    except ConfigurationError:
        raise
    except UnidentifiedImageError as error:
        raise ConfigurationError(f"{where} is not a readable image: it begins like none") from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise ConfigurationError(f"{where} is not a readable image: {reason_of(error)}") from error


def check_png(data: bytes) -> None:
    """Check the checksums of a PNG, of which Pillow passes over those of the pixels; nothing for other formats.

    Raises:
        ValueError: a checksum is wrong, or the end is missing.
    """
    if not data.startswith(_PNG):
        return
    begin, kind = len(_PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, begin) if begin + 8 <= len(data) else (0, b"")
        end = begin + 8 + length
        if end + 4 > len(data):
            raise ValueError("its end is missing")
        if data[end : end + 4] != zlib.crc32(memoryview(data)[begin + 4 : end]).to_bytes(4, "big"):
            raise ValueError(f"damaged at byte {begin} of {len(data)}, where a checksum is wrong")
        begin = end + 4


def _rgb(image: Image.Image) -> Image.Image:
    """Return the pixels of an image as RGB; converting one that is RGB already would copy it."""
    if image.mode != "RGB":
        return image.convert("RGB")
    image.load()
    return image
