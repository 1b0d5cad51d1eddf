"""Room on the disk that a run holds for its last words, so that it can say that the disk was full."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import write_json

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BYTES, _BYTES_PER_WORKER = 64 * 1024, 16 * 1024


def hold(folder: RunFolder, world_size: int) -> None:
    """Take the room, if there is any: enough for the reports of all workers and ``summary.json``."""
    path = _path(folder)
    try:
        path.write_bytes(bytes(_BYTES + _BYTES_PER_WORKER * world_size))
    except OSError:  # what cannot be done without room will say so
        with contextlib.suppress(OSError):
            path.unlink()


def release(folder: RunFolder) -> None:
    """Give the room back."""
    with contextlib.suppress(OSError):
        _path(folder).unlink()


def write_last(folder: RunFolder, path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file of the run, in the room that it holds if the disk is full.

    Raises:
        OSError: what the file system said; :class:`FolderGone` if another folder is in the place of the run's.
    """
    folder.same.check()
    try:
        write_json(path, content)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        release(folder)
        write_json(path, content)


def _path(folder: RunFolder) -> Path:
    return folder.path / ".reserve"
