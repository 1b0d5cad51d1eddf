"""What folders and archives of images share: which files count, and damage in one sentence. Imports without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sgp_core.errors import ConfigurationError

LARGEST_FILE = 2**30
"""Bytes of the largest file that is read as an image: what is larger is none, or does not fit into memory decoded."""
_LONGEST_REASON = 150
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}


def is_image(name: str) -> bool:
    """Return whether a file counts as an image: by its suffix; hidden files do not."""
    return os.path.splitext(name)[1].lower() in _SUFFIXES and not any(map(is_hidden, name.split("/")))


def is_hidden(name: str) -> bool:
    """Return whether what is called or lies below ``name`` is left by a program and not meant to be found."""
    return name.startswith(".") or name == "__MACOSX"


def printable(name: object) -> str:
    """Return the name of a file as it fits into one line of UTF-8: bytes that are no text as ``\\xff``."""
    try:
        text = os.fsencode(str(name)).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # no name of a file: the content of a damaged one
        text = str(name)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def reason_of(error: Exception) -> str:
    """Return what a parser said of damaged content, on one line: some put the content into it."""
    words = str(error.strerror if isinstance(error, OSError) and error.strerror else error).partition("\n")[0]
    return printable(words)[:_LONGEST_REASON] or type(error).__name__


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
        raise ConfigurationError(f"{printable(path)} cannot be read: {reason_of(error)}") from error
