"""Memory shared by the processes of one host carries everything: each reaches into the others' without asking."""

from __future__ import annotations

import torch.distributed as dist

from sgp_core.asynchronous.carrier import lost
from sgp_core.asynchronous.shared_memory.mailbox_segment import map_mailboxes
from sgp_core.distributed.collectives import Collectives
from sgp_core.tensors.flat_vector import FlatVector


class SharedMemoryCarrier:
    """Segments of all workers, and words in them by which they meet.

    Args:
        group: the process group of all workers; without torch.distributed, a world of one.
        params: the model's parameters.
        slots: vectors that a segment holds.

    Raises:
        TransportUnavailable: on all workers alike, if they cannot reach each other's memory.
    """

    name = "shared_memory"

    def __init__(self, group: dist.ProcessGroup | None, params: FlatVector, slots: int = 1) -> None:
        workers = Collectives(group)
        self.rank, self.world_size = workers.rank, workers.size
        self._group = group
        self._segments = map_mailboxes(params, group, slots)
        self._mine = self._segments[self.rank]

    def request_meeting(self) -> None:
        """Ask all workers, without waiting, to meet."""
        for segment in self._segments:
            segment.meeting_requested = True

    @property
    def meeting_requested(self) -> bool:
        """Whether a worker has asked for a meeting since the last one."""
        return self._mine.meeting_requested

    def assemble(self, steps: int) -> None:
        """Return once all workers have come, and everything they have sent has landed. Collective."""
        self._mine.standing = True
        self._barrier()

    def disperse(self) -> None:
        """Go on, once all workers have done what they met for. Collective."""
        self._mine.meeting_requested = False
        self._barrier()  # no worker may go on before all have looked
        self._mine.standing = False

    def publish(self, steps: int) -> None:
        """Let peers see that this worker has done its part of ``steps`` steps."""
        self._mine.pushed = steps

    def check_alive(self, rank: int, step: int) -> None:
        """Return if ``rank`` can still be reached.

        Raises:
            PeerLost: it has closed its Gossip or died.
        """
        if self._segments[rank].deserted:
            raise lost(self.rank, rank, step)

    def close(self) -> None:
        """Let go of all segments; peers that still try to reach this worker get :class:`PeerLost`."""
        for segment in self._segments:
            segment.close()

    # -- inside --------------------------------------------------------------------------------------------------------
    def _barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier(self._group)
