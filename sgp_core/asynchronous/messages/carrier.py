"""Messages carry everything: for workers of any hosts. A worker's threads answer whatever its computation is doing."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable

import torch
import torch.distributed as dist

from sgp_core.asynchronous.carrier import LOOK_SECONDS, lost
from sgp_core.asynchronous.link_faults import MESSAGES
from sgp_core.asynchronous.messages.peer_connection import (
    BufferPool,
    Header,
    MessageKind,
    PeerConnection,
    connect_peers,
    disconnect,
    say_goodbye,
)
from sgp_core.distributed.collectives import Collectives
from sgp_core.distributed.process_group import group_timeout
from sgp_core.errors import PeerLost
from sgp_core.tensors.flat_vector import FlatVector

_NOTICING_SECONDS = 2.0
"""How long to wait for the threads to say which peer is gone, once the group has failed."""


class MessageCarrier:
    """Connections to all other workers, and meetings of all.

    A meeting begins with an all-gather of how many messages each worker has put on each of its connections. A worker
    that has received that many from every peer knows that nothing is on its way to it any more.

    Args:
        group: the process group of all workers, at least two.
        params: the model's parameters.
    """

    name = MESSAGES

    def __init__(self, group: dist.ProcessGroup | None, params: FlatVector) -> None:
        workers = Collectives(group)
        self.rank, self.world_size = workers.rank, workers.size
        self._group = group
        self._steps = 0
        self._requested = False
        self._closed = False
        self._gone: list[tuple[int, RuntimeError]] = []
        """Peers that died, first to last: those after the first may have ended because of it."""
        self._pool = BufferPool(params)
        self._connections = connect_peers(group, self._handle, self._lose)
        for connection in self._connections.values():
            connection.start()
        self._disconnect = weakref.finalize(self, disconnect, self._connections)  # at the latest at the process's end

    @property
    def buffers_made(self) -> int:
        """How many vectors were allocated for messages."""
        return self._pool.made

    def request_meeting(self) -> None:
        """Ask all workers, without waiting, to meet."""
        if self._requested:
            return  # a request goes to all workers
        self._requested = True
        for connection in self._connections.values():
            connection.send(MessageKind.call)

    @property
    def meeting_requested(self) -> bool:
        """Whether a worker has asked for a meeting since the last one."""
        return self._requested

    def assemble(self, steps: int) -> None:
        """Return once all workers have come, and everything they have sent has landed. Collective."""
        self._steps = steps
        links = self._connections
        mine = torch.tensor([links[r].sent if r in links else steps for r in range(self.world_size)])
        sent = [torch.zeros_like(mine) for _ in range(self.world_size)]
        self._synchronize(lambda: dist.all_gather(sent, mine, group=self._group))
        until = time.monotonic() + group_timeout(self._group).total_seconds()
        for peer, connection in links.items():
            while connection.received < int(sent[peer][self.rank]):
                self.check_alive(peer, steps)
                if time.monotonic() > until:
                    raise PeerLost(
                        f"rank {self.rank} has not received all messages of rank {peer} in time, at its step {steps}",
                        rank=self.rank,
                        peers=(peer,),
                        step=steps,
                    )
                time.sleep(LOOK_SECONDS)
        self._settle({peer: int(sent[peer][peer]) for peer in links})

    def disperse(self) -> None:
        """Go on, once all workers have done what they met for. Collective."""
        self._requested = False
        self._synchronize(lambda: dist.barrier(self._group))  # no worker may go on before all have looked

    def publish(self, steps: int) -> None:
        """Remember how far this worker is; peers learn it from its messages."""
        self._steps = steps
        self._check_all_alive(steps - 1)

    def check_alive(self, rank: int, step: int) -> None:
        """Return if ``rank``, and all others, can still be reached.

        Raises:
            PeerLost: naming the first that is gone.
        """
        self._check_all_alive(step)
        if self._connections[rank].left:
            raise lost(self.rank, rank, step)

    def close(self) -> None:
        """Say goodbye to all peers, and end the threads."""
        if not self._closed:
            self._closed = True
            say_goodbye(self._connections)
            self._disconnect()

    # -- for subclasses ------------------------------------------------------------------------------------------------
    def _handle(self, connection: PeerConnection, header: Header) -> None:
        """Do what a message asks for, in the thread in which it has come."""
        if header.kind == MessageKind.call:
            self._requested = True

    def _settle(self, steps: dict[int, int]) -> None:
        """All workers wait, nothing is on its way; ``steps`` are those of the peers."""

    # -- inside --------------------------------------------------------------------------------------------------------
    def _synchronize(self, collective: Callable[[], object]) -> None:
        """Call a collective of the group of all workers, and say which is missing if that fails."""
        try:
            collective()
        except RuntimeError:
            until = time.monotonic() + _NOTICING_SECONDS
            while not self._gone and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
            self._check_all_alive(self._steps)
            raise

    def _lose(self, rank: int, reason: RuntimeError) -> None:
        self._gone.append((rank, reason))

    def _check_all_alive(self, step: int) -> None:
        for rank, reason in self._gone:
            raise lost(self.rank, rank, step) from reason
