"""The network of workers that wait for nobody: memory shared by the processes of one host."""

from __future__ import annotations

import os
import socket
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch.distributed as dist

from sgp_core.algorithms.adpsgd import partner
from sgp_core.algorithms.base import OneSided
from sgp_core.errors import ConfigurationError
from sgp_core.flat import Flat, Scalar
from sgp_core.runtime.distributed import DistributedNetwork
from sgp_core.runtime.events import Event, Staleness
from sgp_core.runtime.mailbox import Segment
from sgp_core.runtime.pairing import update_and_average_
from sgp_core.runtime.transports import Content
from sgp_core.topology import Topology

_STEPS = 64
"""Steps looked at for in-peers where a topology has no period."""

_LOOK_SECONDS = 0.001
"""Between two looks at how far a peer is, for those who bound staleness."""


class SharedMemoryNetwork(DistributedNetwork):
    """What workers without a common step have in common: their segments, and the moments when all meet.

    Args:
        params: the model's parameters, on the CPU.
        record_events: whether to remember what was used when, see :attr:`events`.

    Raises:
        ConfigurationError: the workers are not processes of one host, or compute on a GPU.
    """

    def __init__(
        self, topology: Topology, group: dist.ProcessGroup | None, params: Flat, *, record_events: bool = False
    ) -> None:
        super().__init__(topology, group)
        self._params = params
        self._scratch = params.zeros_like()
        self.staleness = Staleness()
        self.events: list[Event] | None = [] if record_events else None
        self._closed = False
        slots = self._slots()
        self._mine = Segment.make(params, self.world_size, slots)
        self._segments = self._open(slots)

    # -- what rules ask for --------------------------------------------------------------------------------------------
    def scratch(self) -> Flat:
        """Return memory laid out like the model that nobody else uses."""
        return self._scratch

    def drain(self, x: Flat, weight: Scalar) -> Scalar:
        """Let all workers meet, add what is under way, and part. Collective, unlike everything above."""
        weight = float(weight)
        if self._closed:
            return weight
        self._mine.standing = True
        self._barrier()
        seen, weight = self._deliver(x, weight)
        self._mine.called = False
        self._barrier()  # nobody may go on before everybody has looked
        self._mine.standing = False
        if self.events is not None:
            self.events.append(Event(self.rank, self._mine.pushed, seen=seen, meeting=True))
        return weight

    # -- calling the others --------------------------------------------------------------------------------------------
    def call(self) -> None:
        """Ask all workers, without waiting, to come and meet."""
        for segment in self._segments:
            segment.called = True

    @property
    def called(self) -> bool:
        """Whether a worker has called since the last meeting."""
        return self._mine.called

    # -- messages in flight --------------------------------------------------------------------------------------------
    @property
    def in_flight(self) -> bool:
        """Whether something may be: only a meeting can tell."""
        return not self._closed

    def in_flight_content(self) -> dict[int, Content]:
        """Return nothing: a meeting leaves nothing under way."""
        return {}

    def load_in_flight(self, content: dict[int, Content]) -> None:
        """Do nothing: nothing was kept."""

    def begin(self, step: int) -> None:
        """Begin after ``step`` steps, from the parameters as they are now, with nothing under way. Collective."""
        self._barrier()
        self._restart()
        self._mine.pushed = step
        self._barrier()

    def close(self) -> None:
        """Let go of all segments; peers that still reach for this worker's are told."""
        self._closed = True
        for segment in self._segments:
            segment.close()

    # -- inside --------------------------------------------------------------------------------------------------------
    @abstractmethod
    def _slots(self) -> int:
        """Return how many vectors a segment must hold."""

    @abstractmethod
    def _deliver(self, x: Flat, weight: float) -> tuple[tuple[tuple[int, int], ...], float]:
        """While all stand still, bring ``x`` and ``weight`` up to date; return what was seen."""

    @abstractmethod
    def _restart(self) -> None:
        """Forget what is under way; the parameters are the truth."""

    def _barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier(self.group)

    def _reach(self, rank: int, step: int) -> Segment:
        segment = self._segments[rank]
        if segment.deserted:
            raise RuntimeError(
                f"rank {self.rank} lost rank {rank} at its step {step}: it has closed its Gossip or died; let all"
                " workers call gossip.finish() before any of them ends"
            )
        return segment

    def _open(self, slots: int) -> list[Segment]:
        """Return everybody's segment by rank."""
        on_cpu = all(tensor.device.type == "cpu" for tensor in self._params.tensors)
        here = (_host() if on_cpu else "", os.getpid(), self._mine.fd)
        everybody: list[Any] = [here] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(everybody, here, group=self.group)
        if any(host == "" for host, _, _ in everybody):
            raise ConfigurationError("algorithms whose workers wait for nobody run on the CPU; use osgp on GPUs")
        if len({host for host, _, _ in everybody}) > 1:
            raise ConfigurationError(
                "algorithms whose workers wait for nobody run on one machine, and these workers are on several; use"
                " osgp across machines"
            )
        return [
            self._mine if rank == self.rank else Segment.open(pid, fd, self._params, self.world_size, slots)
            for rank, (_, pid, fd) in enumerate(everybody)
        ]


class MailboxNetwork(SharedMemoryNetwork):
    """Shares are left in the receiver's segment, who adds them when it next looks. See :class:`AsynchronousSGP`."""

    def __init__(self, topology: Topology, *arguments: Any, **options: Any) -> None:
        self._left = [0] * topology.world_size  # messages left with each peer
        self._sent: list[int] = []  # at the latest push
        super().__init__(topology, *arguments, **options)

    def push(self, x: Flat, step: int, weight: Scalar, *, hold: bool = False) -> Scalar:
        """Leave shares with the out-peers of ``step``; keep the rest in place.

        A peer that has not collected the last share, or stands still until all meet, gets none.

        Raises:
            RuntimeError: an out-peer is gone.
        """
        with self._timed("push", step, x):
            edges, weight = self.topology.edges(step), float(weight)
            kept = edges.own_weight[self.rank]
            self._sent.clear()
            for peer, share in zip(edges.out_peers[self.rank], edges.out_weights[self.rank], strict=True):
                segment = self._reach(peer, step)
                accepts = int(segment.collected[self.rank]) == self._left[peer] and not segment.standing
                if accepts and not hold:
                    segment.put(self.rank, step, x, share, weight)
                    self._left[peer] += 1
                    self._sent.append(peer)
                else:
                    kept += share
            self._mine.pushed = step + 1
            if kept != 1.0:
                x.mul_(kept)
            self.bytes_sent += len(self._sent) * (x.nbytes + 8)
            return kept * weight

    def collect(self, x: Flat, step: int, weight: Scalar, max_staleness: int | None) -> Scalar:
        """Add what lies in the mailbox; with ``max_staleness`` first wait for in-peers that are too far behind.

        Raises:
            RuntimeError: an in-peer that is waited for is gone.
        """
        with self._timed("pull", step, x):
            if max_staleness is not None and step >= max_staleness:
                self._wait_for(step - max_staleness, step)
            arrived, messages = self._mine.take(x, wait=max_staleness is not None)
            for _, sent_at, seconds in messages:
                self.staleness.add(step - sent_at, seconds)
        if self.events is not None:
            seen = tuple((sender, sent_at) for sender, sent_at, _ in messages)
            self.events.append(Event(self.rank, step, tuple(self._sent), seen))
        return float(weight) + arrived

    def _wait_for(self, past: int, step: int) -> None:
        for peer in self.topology.in_peers(self.rank, past):
            while self._segments[peer].pushed <= past and not self.called:
                self._reach(peer, step)
                time.sleep(_LOOK_SECONDS)

    def _slots(self) -> int:
        """One for every worker that ever sends here, and one for the owner, so that a free one is always found."""
        steps = self.topology.period or (_STEPS if self.world_size > 1 else 1)
        most = max(
            len({peer for step in range(steps) for peer in self.topology.in_peers(rank, step)})
            for rank in range(self.world_size)
        )
        return (most if self.topology.period else self.world_size - 1) + 1

    def _deliver(self, x: Flat, weight: float) -> tuple[tuple[tuple[int, int], ...], float]:
        arrived, messages = self._mine.take(x, wait=True)
        return tuple((sender, sent_at) for sender, sent_at, _ in messages), weight + arrived

    def _restart(self) -> None:
        self._mine.take(self._scratch, wait=True)


class PairNetwork(SharedMemoryNetwork):
    """Every worker's model lies open in its segment, and the acting one of a pair averages both there.

    See :class:`ADPSGD`. Who needs a model that is in use waits until it has been copied, never for a computation.
    """

    _seen = 0
    """The version of the own model that the parameters are a copy of."""
    _looked = 0.0
    """When they were copied."""

    def meet_partner(self, x: Flat, before: Flat, step: int) -> None:
        """Add ``x - before`` to this worker's open model, average it with that of its partner, and set ``x`` to it.

        Raises:
            RuntimeError: the partner is gone.
        """
        with self._timed("mix", step, x):
            other = partner(self.topology, self.rank, step)
            ranks = sorted([self.rank] if other is None else [self.rank, other])  # in one order: no deadlock
            segments = [self._segments[rank] if rank == self.rank else self._reach(rank, step) for rank in ranks]
            for segment in segments:
                segment.lock(0, wait=True)
            try:
                seen = tuple((rank, segment.version) for rank, segment in zip(ranks, segments, strict=True))
                missed = self._mine.version - self._seen
                theirs = None if other is None else self._segments[other].vectors[0]
                update_and_average_(x, before, self._mine.vectors[0], theirs, untouched=missed == 0)
                for segment in segments:
                    segment.version += 1
                self._seen = self._mine.version
            finally:
                for segment in segments:
                    segment.unlock(0)
            self._mine.pushed = step + 1
            self.bytes_sent += (missed + (other is not None)) * x.nbytes
            self.staleness.add(missed, time.monotonic() - self._looked)
            self._looked = time.monotonic()
        if self.events is not None:
            self.events.append(Event(self.rank, step, () if other is None else (other,), seen))

    def _slots(self) -> int:
        return 1

    def _deliver(self, x: Flat, weight: float) -> tuple[tuple[tuple[int, int], ...], float]:
        x.copy_(self._mine.vectors[0])
        missed, self._seen = self._mine.version - self._seen, self._mine.version
        self.bytes_sent += missed * x.nbytes
        self._looked = time.monotonic()
        return ((self.rank, self._seen),), weight

    def _restart(self) -> None:
        self._mine.vectors[0].copy_(self._params)
        self._seen = self._mine.version
        self._looked = time.monotonic()


NETWORKS: dict[OneSided, type[SharedMemoryNetwork]] = {OneSided.mailbox: MailboxNetwork, OneSided.pairs: PairNetwork}
"""The network of each way to communicate."""


def _host() -> str:
    """Return what tells this machine, and this view of its processes, from any other."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip() if boot.exists() else socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
