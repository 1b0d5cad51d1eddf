"""Work that many processes need and one should do: decoding, encoding, downloads. Imports without torch."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)


def cache_root() -> Path:
    """Return the user's cache folder for data: ``$XDG_CACHE_HOME/sgp``, else ``~/.cache/sgp``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sgp"


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Let one process at a time through; the operating system frees the lock of a process that dies.

    Raises:
        OSError: the lock file cannot be created.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept_or_made(
    entry: Path,
    read: Callable[[Path], T | None],
    make: Callable[[], T | None],
    write: Callable[[Path, T], None],
    what: str,
) -> T | None:
    """Return what the folder ``entry`` keeps; the first process makes it while the others wait.

    Where nothing can be written, every process makes its own.

    Args:
        read: returns None if what is kept is not whole.
        make: may return None: there is nothing to keep.
        write: makes the folder, whole or not at all.
        what: in messages.
    """
    kept = read(entry)
    if kept is not None:
        return kept
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(entry.with_name(entry.name + ".lock")))
        except OSError as error:
            _LOGGER.warning("%s stay in memory, because %s cannot be written: %s", what, entry.parent, error)
            return make()
        kept = read(entry)
        if kept is not None:
            return kept
        made = make()
        if made is None:
            return None
        try:
            write(entry, made)
        except OSError as error:
            _LOGGER.warning("%s stay in memory, because %s cannot be written: %s", what, entry, error)
            return made
        return read(entry) or made
