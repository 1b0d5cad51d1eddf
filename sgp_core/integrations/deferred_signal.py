"""A signal whose handler saves all workers: put off until all of them are between the same two steps."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

_SECONDS_BETWEEN = 0.5
_MOST_STEPS_BETWEEN = 100


class DeferredSignal:
    """Takes a signal in the place of its handler, and calls that on all workers at the same step.

    Signals come to workers at different instants, in the middle of exchanges. Workers ask each other about twice a
    second whether one came, at steps that all of them compute alike.

    Args:
        number: the signal, which has a handler; all workers' main threads must build this at the same step.
        add_up: returns the sums over all workers of some numbers. Collective.
    """

    def __init__(self, number: int, add_up: Callable[[list[float]], list[float]]) -> None:
        self._number = number
        self._add_up = add_up
        self._handler = signal.getsignal(number)
        self._came = self._acted = False
        self._step = self._next = 0
        self._began = time.monotonic()
        self._workers = add_up([1.0])[0]
        signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True

    def poll(self) -> None:
        """Call the handler if any worker has got the signal. Every worker must call, once before each step."""
        self._step += 1
        if self._step >= self._next:
            self.ask()

    def ask(self) -> None:
        """Do so now. Every worker must call, at the same step."""
        if self._acted:
            return
        now = time.monotonic()
        steps = max(self._step - max(self._next, 1), 1)
        came, seconds = self._add_up([float(self._came), (now - self._began) / steps])
        self._began = now
        self._next = self._step + min(
            max(int(_SECONDS_BETWEEN * self._workers / max(seconds, 1e-6)), 1), _MOST_STEPS_BETWEEN
        )
        if came and callable(self._handler):
            self._acted = True
            self._handler(self._number, None)

    def restore(self) -> None:
        """Give the signal its handler back."""
        if signal.getsignal(self._number) == self._note:
            signal.signal(self._number, self._handler)
