"""Monotonic counters in shared memory, by which the workers of one host wait for each other."""

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

# Offsets, in words of 8 bytes, in a worker's own row. Each counter has a cache line of its own.
_LINE = 64 // 8
READY = TOKEN_BYTES // 8
"""Counts the mixes that the worker has come to."""
DONE = READY + _LINE
"""Counts the mixes of which the worker has computed its part."""
PUSHED = DONE + _LINE
"""Counts the messages that the worker has sent."""
READ = PUSHED + _LINE
"""Counts the messages of every in-peer that the worker will not read again."""
_MIX = READ + _LINE  # the vector that it mixes, and the weight
_SLOTS = _MIX + 2  # for each slot, the number of the message in it, and the weight

_YIELDS = 100
_FIRST_PAUSE_S = 20e-6
_LONGEST_PAUSE_S = 200e-6
_CHECK_EVERY_S = 0.25


class SharedCounters:
    """A row of monotonic counters, and of numbers that go with them, for each worker. Only its owner writes a row.

    What a worker has written before it advances a counter is visible to every worker that sees the new count: x86
    keeps the order of stores and of loads; elsewhere the atomic operations of a lock between the two do (not tested on
    ARM).

    Args:
        group: the process group, None for the default one. Collective.
        slots: how many messages of a worker can be announced at a time.
        device: selects the backend whose time-out limits a wait.

    Attributes:
        rank: this worker's rank.
        hosts: the ranks of all workers by host. A worker sees the rows of its own host.
        obstacle: why not all workers are on one host; empty if they are.
    """

    def __init__(self, group: dist.ProcessGroup | None, slots: int, device: str | torch.device = "cpu") -> None:
        self.rank = dist.get_rank(group)
        self.group = group
        self.slots = slots
        self._segments, self.hosts, self.obstacle = map_segments(8 * (_SLOTS + 2 * slots), group)
        rows = self._segments.items()
        self._counts = {rank: np.frombuffer(segment.memory, dtype=np.int64) for rank, segment in rows}
        self._numbers = {rank: np.frombuffer(segment.memory, dtype=np.float64) for rank, segment in rows}
        self._timeout_s = group_timeout(group, device).total_seconds()
        self._fence = threading.Lock()
        self._interrupted = ""

    @property
    def host(self) -> tuple[int, ...]:
        """The ranks of the workers of this worker's host."""
        return next(host for host in self.hosts if self.rank in host)

    # -- counters ----------------------------------------------------------------------------------------------------
    def advance(self, counter: int, value: int) -> None:
        """Set this worker's ``counter`` to ``value``, which is not less than before."""
        self._keep_order()
        self._counts[self.rank][counter] = value

    def have_reached(self, counter: int, value: int, peers: Iterable[int]) -> bool:
        """Whether the counter of each of ``peers`` is at least ``value``."""
        reached = all(self._counts[peer][counter] >= value for peer in peers)
        self._keep_order()
        return reached

    def wait(self, counter: int, value: int, peers: Iterable[int], exchange: Exchange) -> None:
        """Return once the counter of each of ``peers`` is at least ``value``: yield the core for a while, then sleep.

        Args:
            exchange: what fails if a peer is missed.

        Raises:
            PeerLost: a peer has ended, or does not come within the process group's time-out.
        """
        for peer in peers:
            row = self._counts[peer]
            for _ in range(_YIELDS):
                if row[counter] >= value:
                    break
                os.sched_yield()
            else:
                self._sleep(counter, value, peer, exchange)
        self._keep_order()

    def interrupt(self, why: str) -> None:
        """Let every wait fail from now on; for another thread to call."""
        self._interrupted = why

    def _sleep(self, counter: int, value: int, peer: int, exchange: Exchange) -> None:
        row, segment = self._counts[peer], self._segments[peer]
        begin = time.monotonic()
        next_check, pause = begin + _CHECK_EVERY_S, _FIRST_PAUSE_S
        while row[counter] < value:
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE_S)
            if self._interrupted:
                raise exchange.lost(self._interrupted, [peer])
            now = time.monotonic()
            if now - begin > self._timeout_s:
                raise exchange.lost(f"rank {peer} has not come for {self._timeout_s:g} s", [peer])
            if now >= next_check:
                next_check = now + _CHECK_EVERY_S
                if not segment.owner_lives() and row[counter] < value:
                    raise exchange.lost(f"rank {peer} (process {segment.pid}) has ended", [peer])

    def _keep_order(self) -> None:
        with self._fence:
            pass
        with self._fence:
            pass

    # -- numbers -----------------------------------------------------------------------------------------------------
    def announce_mix(self, vector: int, weight: float) -> None:
        """Write, before ``READY`` advances, which vector this worker mixes and its PushSum weight."""
        self._counts[self.rank][_MIX] = vector
        self._numbers[self.rank][_MIX + 1] = weight

    def mix_of(self, peer: int) -> tuple[int, float]:
        """Return the number of the vector that ``peer`` mixes, and its PushSum weight."""
        return int(self._counts[peer][_MIX]), float(self._numbers[peer][_MIX + 1])

    def announce_message(self, slot: int, message: int, weight: float) -> None:
        """Write, before ``PUSHED`` advances, which message lies in ``slot`` and its PushSum weight."""
        self._counts[self.rank][_SLOTS + 2 * slot] = message
        self._numbers[self.rank][_SLOTS + 2 * slot + 1] = weight

    def message_of(self, peer: int, message: int) -> tuple[int, float]:
        """Return the slot in which a message of ``peer`` lies, and its PushSum weight."""
        slots = range(_SLOTS, _SLOTS + 2 * self.slots, 2)
        at = next(word for word in slots if self._counts[peer][word] == message)
        return (at - _SLOTS) // 2, float(self._numbers[peer][at + 1])
