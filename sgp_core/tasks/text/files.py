"""Files of text, plain or gzipped: what is no text is refused before it fills the memory. Imports without torch."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from sgp_core.errors import ConfigurationError

_LONGEST_WORD = 10_000
"""Characters of a word: the time to learn a vocabulary grows with the square of it."""
_MOST_EXPANSION = 100
"""How many times its size a gzipped file may expand to: text expands to about four times."""
_ALWAYS_ALLOWED = 2**24
"""Bytes that every gzipped file may expand to."""


def decode_text(content: bytes, where: str) -> str:
    """Return UTF-8 bytes as text.

    Args:
        where: what they are, as the beginning of a sentence, such as "notes.txt, line 3,".

    Raises:
        ConfigurationError: they are no text, or a word is longer than words are.
    """
    if b"\0" in content:
        raise ConfigurationError(f"{where} has bytes that are zero: the file is damaged")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{where} is not UTF-8 text: {error.reason} at byte {error.start + 1} of it"
        ) from error
    if len(text) > _LONGEST_WORD and max(map(len, text.split()), default=0) > _LONGEST_WORD:
        raise ConfigurationError(f"{where} has a word of more than {_LONGEST_WORD} characters: the file is damaged")
    return text


@contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, decompressed if its name ends in ``.gz``.

    Raises:
        ConfigurationError: it cannot be read, is damaged, or expands to what no text expands to.
    """
    try:
        with open(path, "rb") as file:
            if path.suffix != ".gz":
                yield file
                return
            with gzip.open(file) as unpacked:
                yield cast("IO[bytes]", io.BufferedReader(_Bounded(unpacked, os.fstat(file.fileno()).st_size)))
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


class _Bounded(io.RawIOBase):
    """A gzipped file that refuses to expand to what no text expands to."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, size: int) -> None:
        self._file = file
        self._left = max(_MOST_EXPANSION * size, _ALWAYS_ALLOWED)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._left -= len(content)
        if self._left < 0:
            raise OSError(f"it expands to more than {_MOST_EXPANSION} times its size, as no text does")
        return len(content)
