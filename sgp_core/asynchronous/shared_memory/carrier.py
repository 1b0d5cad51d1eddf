"""Memory shared by the processes of one host carries everything: each reaches into the others' without asking."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import torch.distributed as dist

from sgp_core.asynchronous.network import AsynchronousNetwork, Seen
from sgp_core.asynchronous.pairwise import PairwiseNetwork
from sgp_core.asynchronous.push_sum import PushSumNetwork
from sgp_core.asynchronous.shared_memory.mailbox_segment import MailboxSegment
from sgp_core.distributed.host_memory import TransportUnavailable
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import update_and_average_
from sgp_core.topology import Topology

_STEPS = 64
"""Steps looked at for in-peers where a topology has no period."""


class SharedMemoryCarrier(AsynchronousNetwork):
    """Segments of all workers, and words in them by which they meet.

    Raises:
        NotShared: on all workers alike, if they cannot reach each other's memory.
    """

    medium = "shared_memory"

    def __init__(
        self, topology: Topology, group: dist.ProcessGroup | None, params: FlatVector, *, record_events: bool = False
    ) -> None:
        super().__init__(topology, group, params, record_events=record_events)
        slots = self._slots()
        self._mine = MailboxSegment.make(params, self.world_size, slots)
        self._segments = self._open(slots)

    def call(self) -> None:
        """Ask all workers, without waiting, to come and meet."""
        for segment in self._segments:
            segment.called = True

    @property
    def called(self) -> bool:
        """Whether a worker has called since the last meeting."""
        return self._mine.called

    def close(self) -> None:
        """Let go of all segments; peers that still reach for this worker's are told."""
        self._closed = True
        for segment in self._segments:
            segment.close()

    # -- inside --------------------------------------------------------------------------------------------------------
    def _slots(self) -> int:
        """Return how many vectors a segment must hold."""
        return 1

    def _gather(self) -> None:
        self._mine.standing = True
        self._barrier()

    def _part(self) -> None:
        self._mine.called = False
        self._barrier()  # nobody may go on before everybody has looked
        self._mine.standing = False

    def _barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier(self.group)

    def _went_on(self, steps: int) -> None:
        super()._went_on(steps)
        self._mine.pushed = steps

    def _reach(self, rank: int, step: int) -> None:
        if self._segments[rank].deserted:
            raise self._lost(rank, step)

    def _open(self, slots: int) -> list[MailboxSegment]:
        """Return everybody's segment by rank."""
        if self.world_size == 1:
            return [self._mine]
        everybody = self._from_all((_host(), os.getpid(), self._mine.fd))
        segments, why = [], ""
        if len({host for host, _, _ in everybody}) > 1:
            why = "the workers are on several hosts"
        else:
            try:
                segments = [
                    self._mine
                    if rank == self.rank
                    else MailboxSegment.open(pid, fd, self._params, self.world_size, slots)
                    for rank, (_, pid, fd) in enumerate(everybody)
                ]
            except OSError as error:
                why = f"worker {self.rank} cannot open the memory of another ({error.strerror})"
        reasons = [reason for reason in self._from_all(why) if reason]
        if reasons:
            raise TransportUnavailable(reasons[0])
        return segments

    def _from_all(self, mine: Any) -> list[Any]:
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, mine, group=self.group)
        return gathered


class SharedMailboxes(SharedMemoryCarrier, PushSumNetwork):
    """Shares are left in a free slot of the receiver's segment."""

    def __init__(self, topology: Topology, *arguments: Any, **options: Any) -> None:
        self._left = [0] * topology.world_size  # messages left with each peer
        super().__init__(topology, *arguments, **options)

    def _accepts(self, peer: int) -> bool:
        segment = self._segments[peer]
        return int(segment.collected[self.rank]) == self._left[peer] and not segment.standing

    def _put(self, peer: int, step: int, x: FlatVector, share: float, weight: float) -> None:
        self._segments[peer].put(self.rank, step, x, share, weight)
        self._left[peer] += 1

    def _take(self, x: FlatVector, *, wait: bool) -> tuple[float, list[tuple[int, int, float]]]:
        return self._mine.take(x, wait=wait)

    def _steps_of(self, peer: int) -> int:
        return self._segments[peer].pushed

    def _slots(self) -> int:
        """One for every worker that ever sends here, and one for the owner, so that a free one is always found."""
        steps = self.topology.period or (_STEPS if self.world_size > 1 else 1)
        most = max(
            len({peer for step in range(steps) for peer in self.topology.in_peers(rank, step)})
            for rank in range(self.world_size)
        )
        return (most if self.topology.period else self.world_size - 1) + 1

    def _deliver(self, x: FlatVector, weight: float) -> tuple[Seen, float]:
        arrived, messages = self._mine.take(x, wait=True)
        return tuple((sender, sent_at) for sender, sent_at, _ in messages), weight + arrived

    def _restart(self) -> None:
        self._mine.take(self._scratch, wait=True)


class SharedPairs(SharedMemoryCarrier, PairwiseNetwork):
    """Every worker's model lies open in its segment, and the acting one of a pair averages both there."""

    def _average(self, x: FlatVector, before: FlatVector, other: int | None, step: int) -> Seen:
        ranks = sorted([self.rank] if other is None else [self.rank, other])  # in one order: no deadlock
        if other is not None:
            self._reach(other, step)
        segments = [self._segments[rank] for rank in ranks]
        for segment in segments:
            segment.lock(0, wait=True)
        try:
            seen = tuple((rank, segment.version) for rank, segment in zip(ranks, segments, strict=True))
            theirs = None if other is None else self._segments[other].vectors[0]
            untouched = self._mine.version == self._seen
            update_and_average_(x, before, self._mine.vectors[0], theirs, untouched=untouched)
            for segment in segments:
                segment.version += 1
        finally:
            for segment in segments:
                segment.unlock(0)
        return seen

    def _own(self) -> tuple[FlatVector, int]:
        return self._mine.vectors[0], self._mine.version


def _host() -> str:
    """Return what tells this machine, and this view of its processes, from any other."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip() if boot.exists() else socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
