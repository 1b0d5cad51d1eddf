"""``metrics.jsonl``: one JSON object per line, each written before the next step begins."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import open_file, write_text
from sgp_core.same_folder import FolderGone
from sgp_core.tracking.base import Row


class JsonlTracker:
    """Appends rows to the file ``path``.

    A row is handed to the operating system in one write, so it survives the death of the process at any
    instant. Numbers that JSON cannot hold (nan, inf) become null.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file: int | None = None

    def resume(self, step: int) -> None:
        """Drop rows after ``step`` and a torn last line, atomically: every step then appears exactly once."""
        self._close()
        if not self._path.exists():
            return
        kept = [row for row in read_rows(self._path) if 0 < _step(row) <= step]
        write_text(self._path, "".join(map(_line, kept)), durable=True)

    def log(self, row: Row) -> None:
        """Append one row.

        Raises:
            OSError: what the file system said, with the path; or the file was removed, renamed or replaced.
        """
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._check_place(self._file)
        line = _line(row).encode()
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        """Close the file."""
        self._close()

    def _check_place(self, file: int) -> None:
        """Refuse to write to a file that is not at its path any more: what is written to it is lost."""
        try:
            there = os.path.samestat(os.stat(self._path), os.fstat(file))
        except OSError:
            there = False
        if not there:
            reason = "the file or its folder was removed, renamed or replaced while a run wrote to it"
            raise FolderGone(errno.ENOENT, reason, str(self._path))

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a ``metrics.jsonl`` that is or was being written: a torn last line is left out."""
    rows = []
    with open_file(path) as file:
        for line in file:
            try:
                row = json.loads(line.decode(errors="replace"))
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                rows.append(row)
    return rows


def _step(row: Row) -> float:
    """Return the step of a row, 0 if it says none."""
    step = row.get("step")
    return step if isinstance(step, int | float) else 0


def _line(row: Row) -> str:
    return json.dumps({name: _jsonable(value) for name, value in row.items()}, allow_nan=False) + "\n"


def _jsonable(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
