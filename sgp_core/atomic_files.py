"""Files that are written whole or not at all: to a temporary name beside the file, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def replace_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends, rename the file there to ``path``.

    Readers see the old file or the new one, never a part of it. If the block raises, the old file stays and the
    temporary one is removed; a process that is killed leaves a hidden file that ends in ``.tmp``.

    Args:
        path: the file; its folder exists.
        durable: whether the new file also survives a power cut from the end of the block on, which takes milliseconds.

    Raises:
        OSError: what the file system said, with the path.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk says nothing of the file
        raise
    if durable:
        _sync(path.parent)  # the rename is in the folder


def write_text(path: Path, content: str, *, durable: bool = False) -> None:
    """Write text, in UTF-8, as :func:`replace_file` does."""
    with replace_file(path, durable=durable) as temporary:
        temporary.write_text(content, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = False) -> None:
    """Write one JSON object as :func:`replace_file` does."""
    write_text(path, json.dumps(content, indent=2) + "\n", durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what a JSON file holds, None if it is absent or damaged."""
    try:
        content = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def read_file(path: Path) -> bytes:
    """Return the content of a file, as :func:`open_file` opens it.

    Raises:
        OSError: there is no file, or it cannot be read.
    """
    with open_file(path) as file:
        return file.read()


def open_file(path: Path) -> BinaryIO:
    """Open a file to read it. Devices and pipes are refused: they may never end.

    Raises:
        OSError: there is no file, or it cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a file", str(path))
    return os.fdopen(handle, "rb")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
