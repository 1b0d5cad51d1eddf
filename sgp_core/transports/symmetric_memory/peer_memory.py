"""What the transport asks of GPUs that write each other's memory: windows, flags, and two streams.

The transport knows no more of a GPU than this, so anything that keeps these promises can stand in for one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

StreamEvent = Any
"""A point in one stream that the other can wait for."""


class PeerWindow(Protocol):
    """Memory of the same size on every worker; every worker can write that of every other."""

    def tensor(self, rank: int, offset: int, size: int, dtype: torch.dtype) -> Tensor:
        """Return ``size`` elements of the memory of ``rank``, from byte ``offset`` on."""

    def signal(self, rank: int, channel: int) -> None:
        """Raise this worker's flag of a channel at ``rank``, once the last one was lowered.

        The worker that lowers the flag sees what this stream had copied there before.
        """

    def wait(self, rank: int, channel: int) -> None:
        """Let the stream wait for the flag of ``rank`` and this channel, and lower it."""


class PeerMemory(Protocol):
    """Calls enqueue work in the current stream and return at once; a stream does its work in the order of the calls."""

    rank: int

    def open(self, nbytes: int) -> PeerWindow:
        """Make a window, all zero. Collective; the only call in which the host waits for other workers."""

    def copy(self, into: Tensor, source: Tensor) -> None:
        """Copy, also to the memory of another worker."""

    def side_stream(self) -> AbstractContextManager[object]:
        """Make the side stream the current one inside the block."""

    def record_event(self) -> StreamEvent:
        """Return an event that is reached when all work in the current stream is done."""

    def wait_event(self, event: StreamEvent) -> None:
        """Let the current stream wait for an event of the other; None has been reached."""

    def settle(self) -> None:
        """Return once all work in both streams is done."""
