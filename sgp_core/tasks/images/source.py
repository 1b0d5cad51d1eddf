"""Where image files are read from: a folder, or a tar archive that is never unpacked. Imports without torch."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tarfile import HeaderError, ReadError, TarFile
from typing import Protocol, Self

from sgp_core.errors import ConfigurationError

_REMEMBERED = 256 * 2**20
"""Archives up to this many bytes are kept in memory once decompressed, instead of decompressed twice."""
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}


class Source(Protocol):
    """A named collection of image files."""

    path: Path

    def fingerprint(self) -> str:
        """Return a string that changes when the content changes (judged by names, sizes and times)."""

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
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise ConfigurationError(f"dataset.path={path} does not exist")
    with _readable(path):
        if not tarfile.is_tarfile(path):
            raise ConfigurationError(f"dataset.path={path} is neither a folder nor a tar archive")
    return Archive(path)


def is_image(name: str) -> bool:
    """Return whether a file counts as an image: by its suffix; hidden files do not."""
    parts = name.split("/")
    return os.path.splitext(name)[1].lower() in _SUFFIXES and not any(
        part.startswith(".") or part == "__MACOSX" for part in parts
    )


class Folder:
    """Image files anywhere below a folder; links to folders are followed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fingerprint(self) -> str:
        """Return a hash of the names, sizes and times of all images."""
        digest = hashlib.sha256(str(self.path).encode())
        for name in self.names():
            state = os.stat(self.path / name)
            digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def names(self) -> list[str]:
        """Return all images, sorted."""
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        top = len(str(self.path).rstrip("/")) + 1
        found = (
            f"{folder}/{file}"[top:].replace(os.sep, "/") if len(folder) >= top else file
            for folder, _, files in os.walk(self.path, followlinks=True)
            for file in files
        )
        return sorted(name for name in found if is_image(name))

    def stream(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield files in the given order."""
        for name in names:
            yield name, self.read(name)

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        with _readable(self.path / name):
            return (self.path / name).read_bytes()

    def where(self, name: str) -> str:
        """Return the full path of a file."""
        return str(self.path / name)


class Archive:
    """Image files in a tar archive, compressed or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._contents: dict[str, bytes] = {}

    def fingerprint(self) -> str:
        """Return a hash of the archive's path, size and time: listing it would mean decompressing it."""
        state = self.path.stat()
        return hashlib.sha256(f"{self.path}\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()

    def names(self) -> list[str]:
        """Return all images, sorted."""
        return sorted(self._offsets)

    def stream(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield files in the order they have in the archive."""
        wanted = set(names)
        if self._offsets.keys() == self._contents.keys():
            yield from ((name, data) for name, data in self._contents.items() if name in wanted)
            return
        with _readable(self.path), tarfile.open(self.path, "r|*", tarinfo=_Member) as archive:
            for member in _images(archive):
                if _plain(member) in wanted:
                    yield _plain(member), _content(archive, member)

    @cached_property
    def _offsets(self) -> dict[str, tuple[int, int]]:
        offsets = {}
        with _readable(self.path), tarfile.open(self.path, "r|*", tarinfo=_Member) as archive:
            remember = self.path.stat().st_size <= _REMEMBERED
            for member in _images(archive):
                offsets[_plain(member)] = (member.offset_data, member.size)
                if remember:
                    self._contents[_plain(member)] = _content(archive, member)
        return offsets

    def read(self, name: str) -> bytes:
        """Return the content of one file; only for archives that are not compressed."""
        offset, size = self._offsets[name]
        return os.pread(self._file, size, offset)

    @cached_property
    def is_compressed(self) -> bool:
        """Whether single files cannot be read without decompressing all before them."""
        try:
            with tarfile.open(self.path, "r:"):
                return False
        except tarfile.TarError:
            return True

    @cached_property
    def _file(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def where(self, name: str) -> str:
        """Return the archive and the file in it."""
        return f"{name} in {self.path}"


_END = vars(tarfile)["EOFHeaderError"]
"""What tarfile raises at the block of zeros that ends an archive; type checkers do not know it."""


class _Member(tarfile.TarInfo):
    """A member of an archive. Without it, tarfile takes a header that is cut off or damaged for the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile: TarFile) -> Self:
        """Return the next member of an archive."""
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if isinstance(error, _END):
                raise
            raise ReadError(f"damaged or incomplete after {tarfile.offset} bytes ({error})") from error


def _images(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    return (member for member in archive if member.isfile() and is_image(_plain(member)))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, "a regular file has content"
    return file.read()


def _plain(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix("./")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn every error of reading into a ConfigurationError of one sentence."""
    try:
        yield
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
