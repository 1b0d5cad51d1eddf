"""Messages carry everything: for workers of any hosts. A worker's threads answer whatever its computation is doing."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable

import torch
import torch.distributed as dist

from sgp_core.asynchronous.messages.peer_connection import (
    BufferPool,
    Header,
    MessageKind,
    PeerConnection,
    connect_peers,
    disconnect,
    say_goodbye,
)
from sgp_core.asynchronous.network import LOOK_SECONDS, AsynchronousNetwork
from sgp_core.distributed.process_group import group_timeout
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology

_NOTICING_SECONDS = 2.0
"""For the threads to say who is gone, where the group says that somebody is."""


class MessageCarrier(AsynchronousNetwork):
    """Lines to all other workers, and how all meet who use them.

    A meeting begins with a count of what each worker has put on each line, in the group of all. Who has received as
    much from everybody knows that nothing is under way to it any more.
    """

    medium = "p2p"

    def __init__(
        self, topology: Topology, group: dist.ProcessGroup | None, params: FlatVector, *, record_events: bool = False
    ) -> None:
        super().__init__(topology, group, params, record_events=record_events)
        self._called = False
        self._gone: list[tuple[int, RuntimeError]] = []
        """Who died, first to last: those after the first may have ended because of it."""
        self._pool = BufferPool(params)
        self._lines = connect_peers(group, self._handle, self._lose) if self.world_size > 1 else {}
        for line in self._lines.values():
            line.start()
        self._cut = weakref.finalize(self, disconnect, self._lines)  # at the latest when the process ends

    def call(self) -> None:
        """Ask all workers, without waiting, to come and meet."""
        if self._called:
            return  # whoever has called has called all
        self._called = True
        for line in self._lines.values():
            line.send(MessageKind.call)

    @property
    def called(self) -> bool:
        """Whether a worker has called since the last meeting."""
        return self._called

    def close(self) -> None:
        """Say goodbye to all, and end the threads."""
        if not self._closed:
            self._closed = True
            say_goodbye(self._lines)
            self._cut()

    # -- inside --------------------------------------------------------------------------------------------------------
    def _handle(self, line: PeerConnection, note: Header) -> None:
        """Do what a message asks for, in the thread in which it has come."""
        if note.kind == MessageKind.call:
            self._called = True

    def _gather(self) -> None:
        mine = torch.tensor([self._lines[r].sent if r in self._lines else self._steps for r in range(self.world_size)])
        everybody = [torch.zeros_like(mine) for _ in range(self.world_size)]
        self._together(lambda: dist.all_gather(everybody, mine, group=self.group))
        until = time.monotonic() + group_timeout(self.group).total_seconds()
        for peer, line in self._lines.items():
            while line.received < int(everybody[peer][self.rank]):
                self._reach(peer, self._steps)
                if time.monotonic() > until:
                    raise RuntimeError(
                        f"rank {self.rank} waits in vain at its step {self._steps} for messages of {peer}"
                    )
                time.sleep(LOOK_SECONDS)
        self._met({peer: int(everybody[peer][peer]) for peer in self._lines})

    def _met(self, steps: dict[int, int]) -> None:
        """All stand still, nothing is under way; ``steps`` are those of the others."""

    def _part(self) -> None:
        self._called = False
        self._together(lambda: dist.barrier(self.group))  # nobody may go on before everybody has looked

    def _together(self, meet: Callable[[], object]) -> None:
        """Meet in the group of all, and say who is missing if that fails."""
        try:
            meet()
        except RuntimeError:
            until = time.monotonic() + _NOTICING_SECONDS
            while not self._gone and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
            self._check_all_live(self._steps)
            raise

    def _lose(self, rank: int, reason: RuntimeError) -> None:
        self._gone.append((rank, reason))

    def _check_all_live(self, step: int) -> None:
        for rank, reason in self._gone:
            raise self._lost(rank, step) from reason

    def _went_on(self, steps: int) -> None:
        super()._went_on(steps)
        self._check_all_live(steps - 1)

    def _reach(self, rank: int, step: int) -> None:
        self._check_all_live(step)
        if self._lines[rank].left:
            raise self._lost(rank, step)
