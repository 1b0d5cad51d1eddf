"""Work whose result many processes need and one computes: decoding, encoding, downloads. Imports without torch."""

from __future__ import annotations

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
    write: Callable[[Path, T], None],
    what: str,
) -> T | None:
    """Return the content of the folder ``entry``; the first process makes it while the others wait.

    Where the folder cannot be written, every process makes its own.

    Args:
        read: returns None if the folder is absent or incomplete.
        make: computes the content; None if there is nothing to keep.
        write: makes the folder atomically.
        what: a name for the content, for messages.
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
