"""Work that many processes need and one should do: decoded images, downloads. Imports without torch."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
