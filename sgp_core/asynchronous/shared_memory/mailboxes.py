"""Mailboxes in shared memory."""

from __future__ import annotations

import torch.distributed as dist

from sgp_core.asynchronous.carrier import Seen
from sgp_core.asynchronous.shared_memory.carrier import SharedMemoryCarrier
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology


class SharedMailboxes(SharedMemoryCarrier):
    """Shares are left in a free slot of the receiver's segment."""

    def __init__(self, group: dist.ProcessGroup | None, params: FlatVector, topology: Topology) -> None:
        super().__init__(group, params, _slots(topology))
        self._left = [0] * self.world_size  # messages left with each peer

    def accepts(self, peer: int) -> bool:
        """Whether ``peer`` has collected this worker's last message, and is not waiting in a meeting."""
        segment = self._segments[peer]
        return int(segment.collected[self.rank]) == self._left[peer] and not segment.standing

    def put(self, peer: int, step: int, x: FlatVector, share: float, weight: float) -> None:
        """Leave ``share * x`` and ``share * weight`` with ``peer``."""
        self._segments[peer].put(self.rank, step, x, share, weight)
        self._left[peer] += 1

    def announce(self, step: int, peers: list[int]) -> None:
        """Do nothing: peers see how far this worker is."""

    def resend(self, step: int) -> int:
        """Do nothing: memory loses nothing."""
        return 0

    def take(self, x: FlatVector, *, wait: bool) -> tuple[float, Seen]:
        """Add the slots to ``x``, and empty them; without ``wait`` but those that are being written to."""
        return self._mine.take(x, wait=wait)

    def take_assembled(self, x: FlatVector) -> tuple[float, Seen]:
        """Add all slots to ``x``, and empty them."""
        return self._mine.take(x, wait=True)

    def steps_of(self, peer: int) -> int:
        """Return after how many of its steps an in-peer has pushed."""
        return self._segments[peer].pushed


def _slots(topology: Topology) -> int:
    """Return one slot for every worker that ever sends to one, and one for its owner: a free one is always found."""
    n = topology.world_size
    if topology.period is None:
        return n
    in_peers = [
        {peer for step in range(topology.period) for peer in topology.in_peers(rank, step)} for rank in range(n)
    ]
    return max(map(len, in_peers)) + 1
