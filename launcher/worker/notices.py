"""Warnings of a worker, for the user who watches the run: they go to the progress file, which the launcher shows."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from launcher.runs.row_lines import NOTICE


class NoticeHandler(logging.Handler):
    """Appends every warning of this worker to the progress file of the attempt. It stays in the worker's log, too."""

    def __init__(self, path: Path) -> None:
        from sgp_core.tracking import JsonlTracker

        super().__init__(logging.WARNING)
        self._file = JsonlTracker(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; that the disk is full is for others to say."""
        with contextlib.suppress(OSError):
            self._file.log({NOTICE: record.getMessage()})


def show_warnings(path: Path) -> None:
    """Let the progress file ``path`` have the warnings of the library and the launcher."""
    handler = NoticeHandler(path)
    for package in ("sgp_core", "launcher"):
        logging.getLogger(package).addHandler(handler)
