"""What folders and archives of images share: which files count, and damage in one sentence. Imports without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sgp_core.errors import ConfigurationError

LARGEST_FILE = 2**30
"""Bytes of the largest file that is read as an image: what is larger is none, or does not fit into memory decoded."""
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}


def is_image(name: str) -> bool:
    """Return whether a file counts as an image: by its suffix; hidden files do not."""
    return os.path.splitext(name)[1].lower() in _SUFFIXES and not any(map(is_hidden, name.split("/")))


def is_hidden(name: str) -> bool:
    """Return whether what is called or lies below ``name`` is left by a program and not meant to be found."""
    return name.startswith(".") or name == "__MACOSX"


def printable(name: object) -> str:
    """Return the name of a file as it fits into one line of UTF-8: bytes that are no text as ``\\xff``."""
    text = os.fsencode(str(name)).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


@contextmanager
def readable(path: object) -> Iterator[None]:
    """Turn every error of reading ``path`` into a ConfigurationError: parsers of damaged files raise nearly anything.

    Raises:
        ConfigurationError: one sentence that names ``path``.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        reason = str(error.strerror if isinstance(error, OSError) and error.strerror else error).partition("\n")[0]
        raise ConfigurationError(f"{printable(path)} cannot be read: {reason or type(error).__name__}") from error
