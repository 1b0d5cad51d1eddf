"""Loader processes make batches ahead of need, so that training does not wait for files and decoders.

Torch's ``DataLoader`` hands over every tensor in a new piece of shared memory: 0.4 to 1.7 ms of the training thread for
32 small images, a tenth of a small model's step. Here a process and its worker share one piece of
memory all the time, and a short message announces each batch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import Batch
from sgp_core.training.loader_process import FREE, BatchBuffers, Failure, Written, serve, tensors_of


class LoaderDied(RuntimeError):
    """A loader process ended unexpectedly; the message says how."""


class Loader(Iterator[Batch]):
    """Iterates over ``make(item) for item in items``; processes make batches while others are used.

    ``make`` must be a pure function of ``item``: then batches are the same bits for any number of processes, which
    take turns in a fixed order. They are forks of this process, begun with the first batch; they leave signals to it
    and do not outlive it. A batch may lie in shared memory: it is valid until the next is asked for.

    Args:
        make: returns the batch of one item.
        items: what to make batches of, in order.
        processes: how many make them; 0: none, each batch is made when it is asked for.
        ahead: batches that each process has ready.

    Raises:
        LoaderDied: by ``next()``, when a process was killed. What ``make`` raises in a process, ``next()`` raises.
        ConfigurationError: by the first ``next()``, where a process cannot start others.
    """

    def __init__(self, make: Callable[[Any], Batch], items: Sequence[Any], processes: int, ahead: int = 2) -> None:
        self._make = make
        self._items = items
        self._processes = processes
        self._ahead = ahead
        self._position = 0
        self._helpers: list[_Helper] = []

    def __next__(self) -> Batch:
        position, self._position = self._position, self._position + 1
        if position >= len(self._items):
            self.close()
            raise StopIteration
        if not self._processes:
            return self._make(self._items[position])
        if position == 0:
            return self._first()
        return self._helpers[(position - 1) % len(self._helpers)].receive()

    def _first(self) -> Batch:
        """Make the first batch here, to learn the size of batches, and start processes for the ones after it."""
        batch = self._make(self._items[0])
        # Twice as large: the first may be the short end of an epoch. A batch that does not fit goes through the pipe.
        size = 2 * sum(tensor.nbytes for tensor in tensors_of(batch))
        rest = self._items[1:]
        count = min(self._processes, len(rest))
        self._helpers = [_Helper(self._make, rest[first::count], size, self._ahead) for first in range(count)]
        return batch

    def close(self) -> None:
        """End the processes. Batches not used are lost; ``next()`` gives no more."""
        self._position = len(self._items)
        while self._helpers:
            self._helpers.pop().end()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


class _Helper:
    """The worker's side of one loader process."""

    def __init__(self, make: Callable[[Any], Batch], items: Sequence[Any], size: int, ahead: int) -> None:
        context = _context()
        self._slots = BatchBuffers(ahead + 1, size)
        self._pipe, theirs = context.Pipe()
        self._holds = False
        """Whether the worker may still be reading the slot of the previous batch."""
        self._process: BaseProcess = context.Process(
            target=serve,
            args=(make, items, self._slots, theirs, os.getpid()),
            name="sgp-loader",
            daemon=True,
        )
        self._process.start()
        theirs.close()  # only the process holds that end now, so its death closes the pipe

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        assert self._process.pid is not None, "it was started"
        return self._process.pid

    def receive(self) -> Batch:
        """Return the next batch, and release the memory of the previous one."""
        try:
            if self._holds:
                self._pipe.send_bytes(FREE)
            message = self._pipe.recv()
        except (EOFError, OSError):
            raise LoaderDied(self._epitaph()) from None
        if isinstance(message, Failure):
            raise message.error
        self._holds = isinstance(message, Written)
        return self._slots.read(message) if isinstance(message, Written) else pickle.loads(message)

    def _epitaph(self) -> str:
        self._process.join(5)
        code = self._process.exitcode
        how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
        hint = "; was there enough memory?" if code == -signal.SIGKILL else ""
        return f"a loader process (pid {self.pid}) {how}{hint}"

    def end(self) -> None:
        """Kill the process. This is safe: it only reads files, and the worker no longer reads its memory."""
        self._process.kill()
        self._process.join()
        with contextlib.suppress(OSError):
            self._pipe.close()


def _context() -> multiprocessing.context.ForkContext:
    """Return the context that starts processes. Forks share everything loaded and imported, and start at once."""
    if multiprocessing.current_process().daemon:
        raise ConfigurationError(
            "loader.processes must be 0 here: Python lets no daemonic process, which this worker is, start others"
        )
    try:
        return multiprocessing.get_context("fork")
    except ValueError:
        raise ConfigurationError("loader.processes must be 0 on a system that cannot fork processes") from None
