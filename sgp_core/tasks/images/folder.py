"""Image files in a folder. Imports without torch."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.images.reading import LARGEST_FILE, is_hidden, is_image, printable, readable

_DEEPEST = 50
"""Folders below each other; more are a mistake."""
_SIZES = 20_000
"""Files whose sizes are asked for to tell trees apart: a million questions take minutes on a shared file system."""


class Folder:
    """Image files anywhere below a folder; links to folders are followed.

    Raises:
        ConfigurationError: by every method, for what looks like an image or a folder of images and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def fingerprint(self) -> str:
        """Return a hash of the names, sizes and times of all images."""
        digest = hashlib.sha256(os.fsencode(self.path))
        for name in self.names():
            with readable(self.path / name):
                state = os.stat(self.path / name)
            digest.update(os.fsencode(name) + f"\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def content(self) -> str:
        """Return a hash of the names of all images, and of the sizes of up to 20,000 of them."""
        names = self.names()
        digest = hashlib.sha256()
        for index, name in enumerate(names):
            size = ""
            if index % (len(names) // _SIZES + 1) == 0:
                with readable(self.path / name):
                    size = str(os.stat(self.path / name).st_size)
            digest.update(os.fsencode(name) + f"\0{size}\n".encode())
        return digest.hexdigest()

    def verify(self) -> None:
        """Do nothing: there is no published checksum of a folder."""

    def is_empty(self) -> bool:
        """Return whether there is no image; one is enough to know."""
        return next(self._walk(self.path, "", ()), None) is None

    def names(self) -> list[str]:
        """Return all images, sorted."""
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self._walk(self.path, "", ()))

    def _walk(self, folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
        """Yield the images below ``folder``; ``above`` identifies the folders that lead to it."""
        with readable(folder):
            state = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        here = (state.st_dev, state.st_ino)
        if here in above:
            raise ConfigurationError(f"{printable(folder)} is a link to a folder that it lies in: remove it")
        if len(above) > _DEEPEST:
            raise ConfigurationError(f"{printable(folder)} lies below more than {_DEEPEST} folders")
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if _is_folder(entry):
                yield from self._walk(folder / entry.name, f"{prefix}{entry.name}/", (*above, here))
            elif is_image(entry.name) or (entry.is_symlink() and "." not in entry.name and not _leads(entry)):
                _check_file(entry)
                yield prefix + entry.name

    def stream(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield files in the given order."""
        for name in names:
            yield name, self.read(name)

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        path = self.path / name
        with readable(path), open(path, "rb", opener=_open_at_once) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise ConfigurationError(f"{printable(path)} is not a file")
            if state.st_size > LARGEST_FILE:
                raise ConfigurationError(f"{printable(path)} has {state.st_size} bytes: too many for an image")
            return file.read()

    def where(self, name: str) -> str:
        """Return the full path of a file."""
        return printable(self.path / name)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe that has taken its place would otherwise wait for a writer, for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _leads(link: os.DirEntry[str]) -> bool:
    return os.path.exists(link.path)


def _check_file(entry: os.DirEntry[str]) -> None:
    """Refuse what is no file: pipes, devices, and links to nothing, which may be to a folder that is not mounted."""
    if entry.is_symlink() and not _leads(entry):
        target = printable(os.readlink(entry.path))
        raise ConfigurationError(f"{printable(entry.path)} is a link to {target}, which is not there")
    if not entry.is_file():
        raise ConfigurationError(f"{printable(entry.path)} is not a file")
