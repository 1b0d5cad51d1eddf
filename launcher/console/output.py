"""Output that ends before the runs do: its reader has left, its disk is full, or it was closed from the start."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


def open_closed_streams() -> None:
    """Open stdin, stdout and stderr on the null device where they are closed, as by ``>&-``.

    Python has no object for a closed one, and the next file that is opened would take its place.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue  # something else has been opened there
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def discard(stream: TextIO) -> None:
    """Send the rest of what is written to a stream, and what it still holds, to the null device."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)


@contextlib.contextmanager
def outlive_output(command: str) -> Iterator[None]:
    """Lose what cannot be printed inside the ``with`` block, rather than end it: output is not the run.

    Args:
        command: its name, for the one sentence on stderr that says so.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):  # names of runs may have characters that this terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    out = _Output(before[0], f"{command}: no more output ({{}}); training goes on\n")
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, _Output(before[1]))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        out.farewell = ""  # loggers may keep the stream
        sys.stdout, sys.stderr = before


class _Output:
    """A stream whose errors are not those of who writes to it."""

    def __init__(self, stream: TextIO, farewell: str = "") -> None:
        self._stream, self.farewell = stream, farewell
        self._lost = False

    def write(self, text: str) -> int:
        """Write text, or lose it."""
        if not self._lost:
            try:
                return self._stream.write(text)
            except (OSError, ValueError) as error:  # ValueError: it is closed
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Pass on what is written, or lose it."""
        if not self._lost:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._lost = True
        discard(self._stream)
        if self.farewell:
            sys.stderr.write(self.farewell.format(getattr(error, "strerror", None) or error))
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
