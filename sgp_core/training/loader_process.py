"""The body of a loader process, and the memory that it shares with its worker."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from sgp_core.tasks.base import Batch

FREE = b"free"
"""The message by which the worker releases the memory of one batch."""
_PR_SET_PDEATHSIG = 1
_ALIGNMENT = 64


Place = tuple[int, torch.dtype, torch.Size]
"""A tensor in shared memory: offset in bytes, dtype and shape."""


@dataclass(frozen=True)
class Written:
    """A batch that lies in shared memory."""

    inputs: tuple[Place, ...]
    targets: Place
    counts: Place | None


@dataclass(frozen=True)
class Failure:
    """An error that was raised while making a batch."""

    error: BaseException


class BatchBuffers:
    """Shared memory for a few batches: slots that are used in turn.

    The memory is anonymous: it leaves no name behind, and is freed with the last process that maps it.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self._size = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, count * self._size)
        self._used = 0

    def write(self, batch: Batch) -> Written | None:
        """Copy a batch into the next slot; None if it does not fit."""
        offset = (self._used % self.count) * self._size
        end = offset + self._size
        places = []
        for tensor in tensors_of(batch):
            place = (offset, tensor.dtype, tensor.shape)
            offset += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
            if offset > end:
                return None
            self._view(place).copy_(tensor)
            places.append(place)
        self._used += 1
        targets, *inputs = places
        counts = None if batch.counts is None else inputs.pop()
        return Written(tuple(inputs), targets, counts)

    def read(self, written: Written) -> Batch:
        """Return a batch whose tensors are the shared memory: they change when the slot is used again."""
        counts = None if written.counts is None else self._view(written.counts)
        return Batch(tuple(map(self._view, written.inputs)), self._view(written.targets), counts)

    def _view(self, place: Place) -> Tensor:
        offset, dtype, shape = place
        if not shape.numel():  # frombuffer refuses to read nothing
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._memory, dtype=dtype, count=shape.numel(), offset=offset).view(shape)


def tensors_of(batch: Batch) -> list[Tensor]:
    """Return every tensor of a batch: targets, inputs, and counts if there are any."""
    return [batch.targets, *batch.inputs, *([] if batch.counts is None else [batch.counts])]


def serve(
    make: Callable[[Any], Batch], items: Sequence[Any], slots: BatchBuffers, pipe: Connection, worker: int
) -> None:
    """Make a batch of each item, as far ahead of the worker (given by its pid) as there are slots."""
    _belong_to(worker)
    _stand_back()
    torch.set_num_threads(1)  # a fork has no copies of the worker's pool threads
    free = slots.count
    for item in items:
        while not free:
            pipe.recv_bytes()
            free += 1
        try:
            batch = make(item)
            written = slots.write(batch)
        except BaseException as error:
            pipe.send(Failure(_sendable(error)))
            break
        free -= written is not None
        pipe.send(written or pickle.dumps(batch))  # torch would send it through another piece of shared memory
    with contextlib.suppress(EOFError):
        while True:  # if it ended before all batches are fetched, the worker would take it for dead
            pipe.recv_bytes()


def _belong_to(worker: int) -> None:
    """Ignore signals, which are for the worker, and end when the worker ends, however it does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != worker:
        os._exit(1)


def _stand_back() -> None:
    """Never preempt another process to start a batch (Linux): the worker may be on this core."""
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _sendable(error: BaseException) -> BaseException:
    """Return the error, or a RuntimeError with its message if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
