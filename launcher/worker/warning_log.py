"""The warnings of a worker, kept for its report: nobody reads the logs of a run that ended well."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_MOST = 20
_LOGGERS = ("sgp_core", "launcher")


class WarningLog(logging.Handler):
    """Adds the first few warnings, each once, to a list."""

    def __init__(self, warnings: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._warnings = warnings

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning."""
        message = record.getMessage()
        if message not in self._warnings and len(self._warnings) < _MOST:
            self._warnings.append(message)


@contextmanager
def keep_warnings(warnings: list[str]) -> Iterator[None]:
    """Add what this package warns of inside the ``with`` block to ``warnings``."""
    handler = WarningLog(warnings)
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(handler)
