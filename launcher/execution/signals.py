"""Being asked to stop: SIGINT, SIGTERM and SIGHUP are noted, and acted on between two looks at the workers."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class StopSignals:
    """The signals this process has received while it watched."""

    def __init__(self) -> None:
        self.received: list[int] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note signals instead of dying by them; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.received.append(number)
