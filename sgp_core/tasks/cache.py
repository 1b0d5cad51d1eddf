"""Work whose result many processes need and one computes: decoding, encoding, downloads. Imports without torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)
_SCRATCH = re.compile(r"\.(.+)\.\d+")
"""A folder that a process fills: the name of the entry and the number of the process."""


def cache_root() -> Path:
    """Return the user's cache folder for data: ``$XDG_CACHE_HOME/sgp``, else ``~/.cache/sgp``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sgp"


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock between processes; the operating system releases it when a process dies.

    Raises:
        OSError: the lock file cannot be created.
    """
    from filelock import FileLock

    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield


def load_or_make(
    entry: Path,
    read: Callable[[Path], T | None],
    make: Callable[[], T | None],
    fill: Callable[[Path, T], None],
    what: str,
) -> T | None:
    """Return the content of the folder ``entry``; the first process makes it while the others wait.

    Where the folder cannot be written, every process makes its own.

    Args:
        read: returns None if the folder is absent, incomplete or damaged.
        make: computes the content; None if there is nothing to keep.
        fill: writes the content into an empty folder, which takes the place of ``entry`` when it is complete.
        what: a name for the content, for messages.
    """
    kept = read(entry)
    if kept is not None:
        return kept
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(_lock(entry)))
        except OSError as error:
            _LOGGER.warning("%s stay in memory, because %s cannot be written: %s", what, entry.parent, error)
            return make()
        kept = read(entry)
        if kept is not None:
            return kept
        if entry.exists():
            _LOGGER.warning("%s in %s are damaged: they are made anew", what, entry)
        made = make()
        if made is None:
            return None
        try:
            _write(entry, lambda folder: fill(folder, made))
        except OSError as error:
            _LOGGER.warning("%s stay in memory, because %s cannot be written: %s", what, entry, error)
            return made
        return read(entry) or made


def digest_of(arrays: Iterable[np.ndarray], *facts: Any) -> str:
    """Return a hash of arrays and of facts that JSON can write: quick, to notice accidents, not forgeries.

    A gigabyte takes half a second: of each array, the type, the shape and the CRC-32 of the content are hashed.
    """
    import numpy as np

    sums = [
        (array.dtype.str, array.shape, zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data))
        for array in arrays
    ]
    return hashlib.sha256(json.dumps([sums, facts]).encode()).hexdigest()


def _write(entry: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder of this process, and give it the name ``entry``, whose lock this process holds."""
    _remove_leftovers(entry)
    scratch = entry.with_name(f".{entry.name}.{os.getpid()}")
    try:
        scratch.mkdir()
        fill(scratch)
        shutil.rmtree(entry, ignore_errors=True)  # it cannot be read, or this process would have read it
        scratch.rename(entry)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _remove_leftovers(entry: Path) -> None:
    """Remove what killed processes have left beside ``entry``: folders that are filled while their lock is free."""
    from filelock import FileLock, Timeout

    for scratch in entry.parent.iterdir():
        match = _SCRATCH.fullmatch(scratch.name)
        if match is None or not scratch.is_dir():
            continue
        with contextlib.suppress(Timeout, OSError), ExitStack() as held:
            if match[1] != entry.name:
                held.enter_context(FileLock(_lock(entry.with_name(match[1])), timeout=0))
            shutil.rmtree(scratch, ignore_errors=True)


def _lock(entry: Path) -> Path:
    return entry.with_name(entry.name + ".lock")
