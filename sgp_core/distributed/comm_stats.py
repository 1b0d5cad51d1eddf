"""Bytes and seconds that communication has cost a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CommunicationStats:
    """Counts bytes sent and seconds spent; networks inherit it.

    Attributes:
        bytes_sent: bytes that this worker has sent for training.
        seconds: time that the training thread has spent in communication, waiting included.
    """

    def __init__(self) -> None:
        self.bytes_sent = 0
        self.seconds = 0.0

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Exclude the block, which serves evaluation or diagnosis, from the bytes and seconds of training."""
        bytes_sent, seconds = self.bytes_sent, self.seconds
        try:
            yield
        finally:
            self.bytes_sent, self.seconds = bytes_sent, seconds
