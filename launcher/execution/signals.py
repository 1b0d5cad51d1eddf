"""Requests to stop: SIGINT, SIGTERM and SIGHUP are recorded, and obeyed between two looks at the workers."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class StopSignals:
    """The signals that this process has received while it recorded them."""

    def __init__(self) -> None:
        self.received: list[int] = []

    @contextlib.contextmanager
    def record(self) -> Iterator[None]:
        """Record signals inside the ``with`` block instead of dying by them. Only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._append) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _append(self, number: int, frame: object) -> None:
        self.received.append(number)
