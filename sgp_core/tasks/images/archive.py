"""Image files in a tar archive that is never unpacked. Imports without torch."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from tarfile import BLOCKSIZE, HeaderError, ReadError, TarFile
from typing import IO, Any, Self, cast

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.images.reading import LARGEST_FILE, is_image, printable, readable

_REMEMBERED = 256 * 2**20
"""Archives up to this many bytes are kept in memory once decompressed, instead of decompressed twice."""
_OPENERS: dict[bytes, Callable[[IO[bytes]], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""By how a compressed file begins. tarfile's own readers of streams pass over the checksums at the end."""
_SHA256 = re.compile("[0-9a-f]{64}")


class Archive:
    """Image files in a tar archive, compressed or not, which is read to its very end before any of them is used.

    Raises:
        ConfigurationError: by every method, if the archive is damaged or incomplete, or an image in it is no file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._contents: dict[str, bytes] = {}

    def fingerprint(self) -> str:
        """Return a hash of the archive's path, size and time: listing it would mean decompressing it."""
        state = self.path.stat()
        return hashlib.sha256(os.fsencode(self.path) + f"\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()

    def content(self) -> str:
        """Return a hash of the names and sizes of all images."""
        members = sorted((name, size) for name, (_, size) in self._offsets.items())
        return hashlib.sha256(
            b"".join(os.fsencode(name) + f"\0{size}\n".encode() for name, size in members)
        ).hexdigest()

    def verify(self) -> None:
        """Compare the archive with the checksum in ``<name>.sha256``, if there is one, as ``sha256sum`` writes it."""
        published = self.path.with_name(self.path.name + ".sha256")
        if not published.exists():
            return
        with readable(published):
            words = published.read_text().split()
        if not words or not _SHA256.fullmatch(words[0].lower()):
            raise ConfigurationError(f"{printable(published)} does not begin with 64 hexadecimal digits")
        with readable(self.path), open(self.path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != words[0].lower():
            raise ConfigurationError(
                f"{printable(self.path)} is not the archive that {printable(published.name)} was made for: its SHA-256 "
                f"begins with {found[:10]}, not {words[0][:10].lower()}"
            )

    def is_empty(self) -> bool:
        """Return False: to know, the archive would have to be decompressed."""
        return False

    def names(self) -> list[str]:
        """Return all images, sorted."""
        return sorted(self._offsets)

    def stream(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield files in the order they have in the archive."""
        wanted = set(names)
        if self._offsets.keys() == self._contents.keys():
            yield from ((name, data) for name, data in self._contents.items() if name in wanted)
            return
        with readable(self.path), self._open() as archive:
            for name, member in self._images(archive):
                if name in wanted and self._offsets[name][0] == member.offset_data:  # of equal names the last counts
                    yield name, _content(archive, member)
            _check_end(archive)

    @cached_property
    def _offsets(self) -> dict[str, tuple[int, int]]:
        """Where each image is, and its size in bytes."""
        offsets = {}
        with readable(self.path), self._open() as archive:
            free = _REMEMBERED if self.path.stat().st_size <= _REMEMBERED else 0
            for name, member in self._images(archive):
                offsets[name] = (member.offset_data, member.size)
                free -= member.size
                if free > 0:
                    self._contents[name] = _content(archive, member)
            _check_end(archive)
        if free <= 0:
            self._contents.clear()
        return offsets

    @contextmanager
    def _open(self) -> Iterator[TarFile]:
        with ExitStack() as opened:
            file: IO[bytes] = opened.enter_context(open(self.path, "rb"))
            opener = self._opener
            if opener is not None:
                file = opened.enter_context(opener(file))
            mode = "r:" if opener is None else "r|"
            yield opened.enter_context(tarfile.open(fileobj=file, mode=mode, tarinfo=_Member))  # type: ignore[call-overload]

    def _images(self, archive: TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
        """Yield the images; what has the name of one and is none is refused, as it would be missing."""
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isdir() or not is_image(name):
                continue
            if not member.isreg() or member.issparse():
                kind = "a link" if member.islnk() or member.issym() else "not a plain file"
                raise ConfigurationError(
                    f"{self.where(name)} is {kind}: unpack the archive and give dataset.path=FOLDER, or pack it anew "
                    "with tar --dereference --hard-dereference"
                )
            if member.size > LARGEST_FILE:
                raise ConfigurationError(f"{self.where(name)} has {member.size} bytes: too many for an image")
            yield name, member

    def read(self, name: str) -> bytes:
        """Return the content of one file; only for archives that are not compressed."""
        offset, size = self._offsets[name]
        with readable(self.path):
            return os.pread(self._file, size, offset)

    @property
    def is_compressed(self) -> bool:
        """Whether single files cannot be read without decompressing all before them."""
        return self._opener is not None

    @cached_property
    def _opener(self) -> Callable[[IO[bytes]], Any] | None:
        """What decompresses the archive; None if it is not compressed."""
        with open(self.path, "rb") as file:
            begin = file.read(max(map(len, _OPENERS)))
        return next((opener for magic, opener in _OPENERS.items() if begin.startswith(magic)), None)

    @cached_property
    def _file(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def where(self, name: str) -> str:
        """Return the archive and the file in it."""
        return f"{printable(name)} in {printable(self.path)}"


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


def _check_end(archive: TarFile) -> None:
    """Read what follows the last member: two blocks of zeros or more, and of compressed archives the checksum.

    A header that was overwritten with zeros looks like the end, and is followed by the content of its file.
    """
    file, length = cast("IO[bytes]", archive.fileobj), BLOCKSIZE  # tarfile has read the first block
    while block := file.read(2**20):
        length += len(block)
        if block.strip(b"\0"):
            raise ReadError(f"it goes on after its end at {archive.offset} bytes: damaged, or two archives in one file")
    if length < 2 * BLOCKSIZE:
        raise ReadError(f"incomplete: its end is missing after {archive.offset} bytes")


def _content(archive: TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, "a regular file has content"
    return file.read()
