"""Where image files are read from: a folder, or a tar archive that is never unpacked. Imports without torch."""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.images.archive import Archive
from sgp_core.tasks.images.folder import Folder
from sgp_core.tasks.images.reading import printable, readable


class Source(Protocol):
    """A named collection of image files."""

    path: Path

    def fingerprint(self) -> str:
        """Return a string that changes when the content changes (judged by names, sizes and times)."""

    def content(self) -> str:
        """Return a hash that is the same wherever these files lie (judged by names and sizes)."""

    def verify(self) -> None:
        """Compare the content with a checksum that is published beside it.

        Raises:
            ConfigurationError: they differ.
        """

    def is_empty(self) -> bool:
        """Return whether there is no image, as far as that is quickly known."""

    def names(self) -> list[str]:
        """Return the image files, sorted, as paths with forward slashes relative to the top."""

    def stream(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the files called ``names`` with their content, in the order that is quickest to read."""

    def read(self, name: str) -> bytes:
        """Return the content of one file."""

    def where(self, name: str) -> str:
        """Return what to call a file in an error."""


def open_source(path: Path) -> Source:
    """Return the folder or archive at ``path``.

    Raises:
        ConfigurationError: there is nothing at ``path``, or neither of the two.
    """
    with readable(path):
        if path.is_dir():
            return Folder(path)
        if not path.exists():
            raise ConfigurationError(f"dataset.path={printable(path)} does not exist")
        if not path.is_file() or not tarfile.is_tarfile(path):
            raise ConfigurationError(f"dataset.path={printable(path)} is neither a folder nor a tar archive")
    return Archive(path)
