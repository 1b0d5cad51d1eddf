"""A mirror of the record in another program: a thread writes it. A run does not wait for it, and does not fail with it.

Weights & Biases, TensorBoard and MLflow are mirrors. Each says only how it opens, writes a row and closes.
"""

from __future__ import annotations

import logging
import queue
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from sgp_core.tracking.base import Row
from sgp_core.tracking.jsonl import read_rows

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 10
"""How long to wait for the first row before a mirror is opened anyway."""

_End = tuple[str, dict[str, Any]]


class Mirror(ABC):
    """Mirrors the rows of a ``metrics.jsonl``.

    A thread does all the work, imports included. It starts with the first row, so that it does not slow the first
    steps. A resumed run first gets the rows of the record up to the step it goes on from, then those that are logged.
    After a failure there is one warning, and the mirror is off.

    Args:
        record: the ``metrics.jsonl`` that is mirrored.
        finish_timeout_s: time for all that can be left at the end: a start in progress, the rows, the upload.
    """

    title: ClassVar[str]
    """Its name in messages."""

    def __init__(self, record: Path, finish_timeout_s: float) -> None:
        self._record = record
        self._finish_timeout_s = finish_timeout_s
        self._resumed: int | None = None
        self._off = False
        self._trouble: str | None = None
        self._queue: queue.SimpleQueue[Row | _End] = queue.SimpleQueue()
        self._due = threading.Event()
        self._thread: threading.Thread | None = None
        self._deadline: float | None = None

    @property
    def active(self) -> bool:
        """Whether rows are still being mirrored."""
        return not self._off

    @property
    def trouble(self) -> str | None:
        """Why the mirror lacks rows of the record; None if it does not."""
        return self._trouble

    def resume(self, step: int) -> None:
        """Training continues after ``step`` steps: the mirror gets the record up to there, then the logged rows."""
        self._resumed = step
        if not self._off:
            self._start()

    def log(self, row: Row) -> None:
        """Queue one row to be mirrored."""
        if not self._off:
            self._start()
            self._queue.put(row)
            self._due.set()

    def replay(self, status: str, summary: dict[str, Any]) -> None:
        """Mirror the whole record of a run that has ended."""
        self.resume(sys.maxsize)
        self._due.set()
        self.finish(status, summary)

    def conclude(self, status: str, summary: dict[str, Any]) -> None:
        """Begin what :meth:`finish` waits for, so that several mirrors close at the same time."""
        if self._off or self._deadline is not None:
            return
        if not self._due.is_set():  # there are no rows
            self._off = True
        self._queue.put((status, summary))
        self._due.set()
        self._deadline = time.monotonic() + self._finish_timeout_s

    def finish(self, status: str, summary: dict[str, Any]) -> None:
        """Write the rows left and the summary (``best/...``, ``final/...``, ``status``) and close, in time."""
        self.conclude(status, summary)
        if self._deadline is None:
            return
        deadline, self._deadline = self._deadline, None
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                self._warn(TimeoutError(f"not finished after {self._finish_timeout_s:g} s"))
            self._leave()
        self._off = True

    # -- the thread -----------------------------------------------------------------------------------------------
    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self.title, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        # A service that is started inherits the mask: the signals that ask workers to save would kill it.
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
        self._due.wait(_PATIENCE_SECONDS)
        if self._off:
            return
        try:
            self._open()
            self._catch_up()
            while not isinstance(entry := self._queue.get(), tuple):
                self._write(entry)
                if self._queue.empty():
                    self._flush()
            self._flush()
            self._close(*entry)
        except Exception as error:
            self._warn(error)

    def _catch_up(self) -> None:
        """Write what the record has of the steps before those that will be logged."""
        if self._resumed is None or (self._resumed > 0 and not self._record.exists()):
            return
        self._replace_earlier()
        for row in read_rows(self._record) if self._resumed else []:
            if row.get("step", 0) <= self._resumed:
                self._write(row)
        self._flush()

    @abstractmethod
    def _open(self) -> None:
        """Import what is needed, and open the mirror."""

    @abstractmethod
    def _write(self, row: Row) -> None:
        """Write a row."""

    @abstractmethod
    def _close(self, status: str, summary: dict[str, Any]) -> None:
        """Write the summary of the run, which ended as ``status``, and close."""

    def _replace_earlier(self) -> None:
        """Put aside what an earlier attempt wrote: the record is about to be written anew."""

    def _flush(self) -> None:
        """Make sure that what was written survives the death of the process."""

    def _leave(self) -> None:
        """End what would hold up the exit of the process."""

    def _give_up(self) -> None:
        """Forget what is open, after a failure."""

    def _warn(self, error: BaseException) -> None:
        if not self._off:
            self._off, self._trouble = True, short(error)
            self._give_up()
            _log.warning("%s is off for this run (%s)", self.title, short(error))


class Points:
    """Which points of every curve a mirror has, so that each step is in it once."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def note(self, name: str, step: int) -> None:
        """Note that the curve ``name`` reaches ``step``."""
        self._last[name] = max(step, self._last.get(name, step))

    def new(self, numbers: dict[str, float], step: int) -> dict[str, float]:
        """Return the numbers of ``step`` that are not there yet, and note them: a later row of a step only adds."""
        fresh = {name: value for name, value in numbers.items() if step > self._last.get(name, -1)}
        self._last |= dict.fromkeys(fresh, step)
        return fresh


def start_of_training(record: Path) -> float:
    """Return the time at which a run would have begun if it had trained until now without a pause, in seconds.

    Added to a row's ``wall_time_s``, it gives points the distances in time that they had in training.
    """
    rows = read_rows(record) if record.exists() else []
    walls = [wall for row in rows if isinstance(wall := row.get("wall_time_s"), int | float)]
    return time.time() - max(walls, default=0.0)


def short(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
