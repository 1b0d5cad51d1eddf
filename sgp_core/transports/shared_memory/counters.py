"""What workers on one host say to each other in shared memory: counts that only rise, and numbers with them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable

import numpy as np
import torch
import torch.distributed as dist

from sgp_core.distributed.exchange import Exchange
from sgp_core.distributed.host_memory import TOKEN_BYTES, map_segments
from sgp_core.distributed.process_group import group_timeout

# Words of 8 bytes in a worker's own row; each count has a cache line of its own.
_LINE = 64 // 8
READY = TOKEN_BYTES // 8
"""Mixes it has come to."""
DONE = READY + _LINE
"""Mixes of which its part is computed."""
PUSHED = DONE + _LINE
"""Messages it has sent."""
READ = PUSHED + _LINE
"""Messages of every peer that it will not look at again."""
_MIXED = READ + _LINE  # which of its vectors it mixes, and the weight
_SLOTS = _MIXED + 2  # for each outbox, the message that lies there, and its weight

_YIELDS = 100
_FIRST_PAUSE_S = 20e-6
_LONGEST_PAUSE_S = 200e-6
_LOOK_EVERY_S = 0.25


class SharedCounters:
    """One row of numbers a worker, written by that worker alone and read by those of its host.

    What a worker writes before it raises a count is there for whoever sees the count raised: x86 keeps the order of
    stores and of loads; elsewhere the atomic operations of a lock between the two see to it (not tried on ARM).

    Args:
        group: the process group, None for the default one. Collective.
        slots: outboxes of each worker.
        device: a kind of device that the group is for.

    Attributes:
        rank: this worker's.
        hosts: all workers, those together that can map each other's memory. A worker reads the rows of its host.
        why: it is not one host; empty if it is.
    """

    def __init__(self, group: dist.ProcessGroup | None, slots: int, device: str | torch.device = "cpu") -> None:
        self.rank = dist.get_rank(group)
        self.group = group
        self.slots = slots
        self._segments, self.hosts, self.why = map_segments(8 * (_SLOTS + 2 * slots), group)
        rows = self._segments.items()
        self._counts = {rank: np.frombuffer(segment.memory, dtype=np.int64) for rank, segment in rows}
        self._numbers = {rank: np.frombuffer(segment.memory, dtype=np.float64) for rank, segment in rows}
        self._timeout_s = group_timeout(group, device).total_seconds()
        self._order = threading.Lock()

    @property
    def here(self) -> tuple[int, ...]:
        """The workers of this worker's host, by rank."""
        return next(host for host in self.hosts if self.rank in host)

    # -- counts ------------------------------------------------------------------------------------------------------
    def raise_to(self, count: int, value: int) -> None:
        """Let all know that this worker is so far."""
        self._keep_order()
        self._counts[self.rank][count] = value

    def has(self, count: int, least: int, peers: Iterable[int]) -> bool:
        """Whether all ``peers`` are so far."""
        reached = all(self._counts[peer][count] >= least for peer in peers)
        self._keep_order()
        return reached

    def wait(self, count: int, least: int, peers: Iterable[int], exchange: Exchange) -> None:
        """Return once all ``peers`` are so far: yield the core for a while, then sleep.

        Raises:
            RuntimeError: one has ended, or is not so far within the process group's timeout.
        """
        for peer in peers:
            row = self._counts[peer]
            for _ in range(_YIELDS):
                if row[count] >= least:
                    break
                os.sched_yield()
            else:
                self._sleep(count, least, peer, exchange)
        self._keep_order()

    def _sleep(self, count: int, least: int, peer: int, exchange: Exchange) -> None:
        row, segment = self._counts[peer], self._segments[peer]
        begin = time.monotonic()
        look, pause = begin + _LOOK_EVERY_S, _FIRST_PAUSE_S
        while row[count] < least:
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE_S)
            now = time.monotonic()
            if now - begin > self._timeout_s:
                raise exchange.lost(f"rank {peer} has not come for {self._timeout_s:g} s", [peer])
            if now >= look:
                look = now + _LOOK_EVERY_S
                if not segment.owner_lives() and row[count] < least:
                    raise exchange.lost(f"rank {peer} (process {segment.pid}) has ended", [peer])

    def _keep_order(self) -> None:
        with self._order:
            pass
        with self._order:
            pass

    # -- what goes with them -----------------------------------------------------------------------------------------
    def set_mixed(self, vector: int, weight: float) -> None:
        """Say, before ``READY``, which vector is to be mixed and with which PushSum weight."""
        self._counts[self.rank][_MIXED] = vector
        self._numbers[self.rank][_MIXED + 1] = weight

    def mixed(self, peer: int) -> tuple[int, float]:
        """Return what ``peer`` has said."""
        return int(self._counts[peer][_MIXED]), float(self._numbers[peer][_MIXED + 1])

    def set_sent(self, slot: int, message: int, weight: float) -> None:
        """Say, before ``PUSHED``, which message lies in ``slot`` and its PushSum weight."""
        self._counts[self.rank][_SLOTS + 2 * slot] = message
        self._numbers[self.rank][_SLOTS + 2 * slot + 1] = weight

    def sent(self, peer: int, message: int) -> tuple[int, float]:
        """Return the slot in which a message of ``peer`` lies, and its weight."""
        slots = range(_SLOTS, _SLOTS + 2 * self.slots, 2)
        at = next(word for word in slots if self._counts[peer][word] == message)
        return (at - _SLOTS) // 2, float(self._numbers[peer][at + 1])
