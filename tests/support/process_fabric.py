"""Stands in for GPUs with symmetric memory: processes on CPUs, with flags, and a side stream that is slow."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.host_memory import TOKEN_BYTES, HostSegment, map_segments
from tests.support.waiting import PATIENCE_S

CHANNELS = 2


class ProcessFabric:
    """Does the work of the main stream at once, and that of the side stream in a thread that is slow."""

    def __init__(self, dawdle_s: float = 0.0) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.windows = 0
        self._dawdle_s = dawdle_s
        self._random = random.Random(self.rank)
        self._aside = False
        self._todo: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self.failed: list[BaseException] = []
        threading.Thread(target=self._work, daemon=True).start()

    def open(self, nbytes: int) -> ProcessWindow:
        self.windows += 1
        flags = -(-8 * CHANNELS * self.world_size // 128) * 128
        segments = map_segments(TOKEN_BYTES + flags + nbytes, None).segments
        return ProcessWindow(self, [segments[rank] for rank in range(self.world_size)], TOKEN_BYTES + flags)

    def copy(self, into: Tensor, source: Tensor) -> None:
        self.do(lambda: into.copy_(source))

    @contextmanager
    def side_stream(self) -> Iterator[None]:
        assert not self._aside
        self._aside = True
        try:
            yield
        finally:
            self._aside = False

    def record_event(self) -> threading.Event | None:
        if not self._aside:
            return None
        reached = threading.Event()
        self._todo.put(reached.set)
        return reached

    def wait_event(self, event: threading.Event | None) -> None:
        if event is not None and not self._aside:
            assert event.wait(PATIENCE_S), self.failed

    def settle(self) -> None:
        reached = threading.Event()
        self._todo.put(reached.set)
        assert reached.wait(PATIENCE_S), self.failed

    def do(self, action: Callable[[], Any]) -> None:
        """Do it in the current stream."""
        if self._aside:
            self._todo.put(action)
        else:
            action()

    def _work(self) -> None:
        torch.set_num_threads(1)
        while True:
            action = self._todo.get()
            if self._dawdle_s:
                time.sleep(self._random.random() * self._dawdle_s)
            try:
                action()
            except BaseException as error:
                self.failed.append(error)
                raise


class ProcessWindow:
    """A segment of every worker: flags, and then the memory."""

    def __init__(self, fabric: ProcessFabric, segments: list[HostSegment], begin: int) -> None:
        self._fabric = fabric
        self._segments = segments
        self._begin = begin
        count = CHANNELS * fabric.world_size
        self._flags = [np.frombuffer(s.memory, np.int64, count, TOKEN_BYTES) for s in segments]

    def tensor(self, rank: int, offset: int, size: int, dtype: torch.dtype) -> Tensor:
        return self._segments[rank].tensor(self._begin + offset, size, dtype)

    def signal(self, rank: int, channel: int) -> None:
        at = channel * self._fabric.world_size + self._fabric.rank
        self._fabric.do(lambda: self._turn(rank, at, 0, 1))

    def wait(self, rank: int, channel: int) -> None:
        at = channel * self._fabric.world_size + rank
        self._fabric.do(lambda: self._turn(self._fabric.rank, at, 1, 0))

    def raised(self) -> int:
        """How many flags at this worker are up."""
        return int(self._flags[self._fabric.rank].sum())

    def _turn(self, rank: int, at: int, before: int, afterwards: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self._flags[rank][at] != before:
            time.sleep(50e-6)
            if time.monotonic() > deadline:
                raise TimeoutError(f"flag {at} at worker {rank} is not {before}: {self._fabric.failed}")
        self._flags[rank][at] = afterwards
