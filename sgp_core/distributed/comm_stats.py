"""What communication has cost a worker so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CommunicationStats:
    """Counts what is sent and the time it takes; networks inherit it.

    Attributes:
        bytes_sent: for training, by this worker.
        seconds: of the training thread, waiting included.
    """

    def __init__(self) -> None:
        self.bytes_sent = 0
        self.seconds = 0.0

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave what is sent inside, for evaluation or diagnosis, out of the training's bytes and seconds."""
        bytes_sent, seconds = self.bytes_sent, self.seconds
        try:
            yield
        finally:
            self.bytes_sent, self.seconds = bytes_sent, seconds
