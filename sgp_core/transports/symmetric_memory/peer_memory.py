"""What GPUs offer that can write each other's memory: windows, flags, and two lanes of work side by side.

The transport above knows no more of a GPU than this, so that anything that keeps the same promises can carry it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

StreamEvent = Any
"""A point in a lane that another lane can wait for."""


class PeerWindow(Protocol):
    """Memory of the same size on every worker, of which every worker reaches every other's."""

    def tensor(self, rank: int, offset: int, size: int, dtype: torch.dtype) -> Tensor:
        """Return ``size`` elements of ``rank``'s memory, from the byte ``offset`` on."""

    def signal(self, rank: int, channel: int) -> None:
        """Raise the flag of this worker and channel at ``rank``, once the one before is taken down.

        What was copied there before in this lane is seen by whoever takes the flag down.
        """

    def wait(self, rank: int, channel: int) -> None:
        """Let the lane wait for the flag of ``rank`` and this channel, and take it down."""


class PeerMemory(Protocol):
    """Work is begun in the current lane and returns at once; within a lane it is done in the order of the calls."""

    rank: int

    def open(self, nbytes: int) -> PeerWindow:
        """Make a window, all zero. Collective; the one call that waits."""

    def copy(self, into: Tensor, what: Tensor) -> None:
        """Copy, also to another worker's memory."""

    def aside(self) -> AbstractContextManager[object]:
        """Make the lane beside the caller's the current one inside the block."""

    def moment(self) -> StreamEvent:
        """Return the moment when all that was begun in the current lane is done."""

    def after(self, moment: StreamEvent) -> None:
        """Let the current lane wait for a moment of the other; None is long past."""

    def settle(self) -> None:
        """Return once all that was begun in either lane is done."""
