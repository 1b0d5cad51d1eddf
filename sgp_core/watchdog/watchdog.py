"""A thread that ends a hang of this worker, or of those that it waits for."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch.distributed as dist

from sgp_core.distributed.heartbeat import DEFAULT_INTERVAL_S, ENDED, Heartbeat
from sgp_core.distributed.host_memory import host_id
from sgp_core.distributed.phase_page import read_page
from sgp_core.errors import WorkerHung
from sgp_core.validation import positive
from sgp_core.watchdog.activity import START, Activity, PhaseNotes, meaning_of, step_of
from sgp_core.watchdog.judge import Hang, WorkerSign, find_hang
from sgp_core.watchdog.stacks import StackFile, ask_for_stacks
from sgp_core.watchdog.starvation import Starvation

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from sgp_core.gossip import Gossip

_SILENT_BEATS = 10
"""A worker that has missed so many beats does not run."""
_WAITED_BEATS = 2
"""A worker that has waited for so many beats looks at all others; before, at the next rank."""
_EARLY_BEATS = 8
"""A limit is over so many beats before its time, so that the error comes within it."""
_TELL_BEATS = 3
"""So many beats after an announcement all workers know it."""
_GRACE_S = 5.0
"""How long the training thread may take to leave once its wait was ended."""

_LOG = logging.getLogger("sgp_core")


class Watchdog:
    """Ends a hang, of this worker or of another, in :class:`~sgp_core.errors.WorkerHung`, on all workers alike.

    A hang is a worker that does the same for longer than ``patience_s``, stopped ones and hosts that are gone included.
    It is told from a worker that waits for it, and time in which a worker waits for a processor does not count: a busy
    machine is slow, but does not hang. Where a wait cannot be ended, or the worker itself hangs, ``on_hang``
    ends the process.

    ::

        with Watchdog(patience_s=60) as watchdog, watchdog.watch(model, optimizer, gossip):
            ...  # the training loop

    Args:
        patience_s: how long a worker may do the same.
        first_patience_s: likewise where it does so for the first time, which compiles, and fills caches.
        folder: gets the stack traces of all workers, in ``stacks-rank-<rank>.txt``; None: nothing.
        on_hang: called with the error, by a thread, if the training thread has not ended a few seconds after a hang was
            found; None: the process ends, with exit code 1.
        store: through which workers tell what they do; None: that of the default process group.
        interval_s: seconds between two of their signs of life.

    Attributes:
        notes: what this worker does.
        hang: the error, once there is a hang.
    """

    def __init__(
        self,
        patience_s: float = 60.0,
        first_patience_s: float = 600.0,
        *,
        folder: Path | None = None,
        on_hang: Callable[[WorkerHung], object] | None = None,
        store: dist.Store | None = None,
        interval_s: float = DEFAULT_INTERVAL_S,
    ) -> None:
        positive("patience_s", patience_s)
        positive("first_patience_s", first_patience_s)
        self.notes = PhaseNotes()
        self.hang: WorkerHung | None = None
        started = dist.is_initialized()
        self._rank = dist.get_rank() if started else 0
        self._workers = dist.get_world_size() if started else 1
        self._interval_s = interval_s
        self._limits_s = (patience_s - min(_EARLY_BEATS * interval_s, patience_s / 4), first_patience_s)
        self._folder = folder
        self._on_hang = on_hang or _end_process
        self._stacks = None if folder is None else StackFile(folder, self._rank)
        self._heart: Heartbeat | None = None
        if self._workers > 1:
            store = store or dist.distributed_c10d._get_default_store()
            self._heart = Heartbeat(dist.PrefixStore("sgp/watchdog", store), self._rank, interval_s)
        self._host = host_id()
        self._seen: object = None
        self._still_s = 0.0
        self._starvation: Starvation | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._starvation = Starvation()
        if self._heart is not None:
            self._heart.report(1, self._activity().to_text())
            self._heart.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(2 * self._interval_s + 1.0)
        if self._heart is not None:
            hang = self._announced(self._heart)
            if hang is not None and self.hang is None and isinstance(error, RuntimeError):
                self._note(hang)
            self._heart.stop()
        self.notes.page.close()
        if self._stacks is not None:
            self._stacks.close()
        if self.hang is not None and isinstance(error, RuntimeError) and error is not self.hang:
            raise self.hang from error

    @contextmanager
    def watch(self, model: nn.Module, optimizer: Optimizer | list[Optimizer], gossip: Gossip) -> Iterator[None]:
        """Follow, inside the block, what training does."""
        optimizers = optimizer if isinstance(optimizer, list) else [optimizer]
        with self.notes.follow(model, optimizers, gossip.waits):
            yield

    # -- the thread ----------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        before = time.monotonic()
        while not self._ending.wait(self._interval_s):
            now = time.monotonic()
            self._notice(min(now - before, 2 * self._interval_s))  # a process that was suspended has not hung
            before = now
            hang = self._look()
            if hang is not None:
                self._end(hang)
                return

    def _notice(self, passed_s: float) -> None:
        _, waits, seen = self.notes.now()
        starved_s = 0.0 if self._starvation is None else self._starvation.more_s()
        if seen is self._seen or (not waits and seen == self._seen):
            self._still_s = max(self._still_s + passed_s - starved_s, 0.0)
        else:
            self._seen, self._still_s = seen, 0.0
        if self._heart is not None:
            self._heart.report(self.notes.step, self._activity().to_text())

    def _activity(self) -> Activity:
        phase, waits, _ = self.notes.now()
        return Activity(phase, waits, self.notes.first, self._still_s, os.getpid(), self._host, self.notes.page.fd)

    def _look(self) -> Hang | None:
        """Return the hang, if there is one that this worker sees, or another has announced."""
        heart = self._heart
        if heart is None:
            return find_hang({self._rank: self._own_sign()}, math.inf, math.inf)
        if (announced := self._announced(heart)) is not None:
            return announced
        if heart.store_silent_s >= self._limits_s[0]:
            return self._blame_store()
        signs = self._signs(heart)
        after_s = _SILENT_BEATS * self._interval_s, self._limits_s[0]
        hang = find_hang(signs, *after_s)
        if hang is not None:
            signs |= {rank: self._read_sign(heart, rank, signs[rank]) for rank in hang.peers if rank != self._rank}
            hang = find_hang(signs, *after_s) or hang
            _LOG.error("%s", hang.text)
            heart.announce(json.dumps(dataclasses.asdict(hang)))
            self._ask_for_stacks(heart, hang)
        return hang

    def _announced(self, heart: Heartbeat) -> Hang | None:
        if heart.announcement is None:
            return None
        told = json.loads(heart.announcement)
        return Hang(told["text"], tuple(told["peers"]), told["step"], told["phase"])

    def _signs(self, heart: Heartbeat) -> dict[int, WorkerSign]:
        """Return the signs of all workers if this one waits or hangs, else of itself and the next."""
        others = [(self._rank + n) % self._workers for n in range(1, self._workers)]
        if self._still_s < _WAITED_BEATS * self._interval_s:
            del others[1:]
        silent, signs = heart.last_seen(others), {self._rank: self._own_sign()}
        for rank, progress in heart.progress(others).items():
            if progress is None:  # it has not begun yet, or the first look is still to come
                signs[rank] = WorkerSign(0.0, silent[rank], math.inf, 1, START, False)
            elif progress.phase != ENDED and (activity := Activity.from_text(progress.phase)) is not None:
                phase, limit = activity.phase, self._limit_s(activity.phase, activity.first)
                still_s = activity.still_s + silent[rank]
                signs[rank] = WorkerSign(silent[rank], still_s, limit, progress.step, phase, activity.waits)
        return signs

    def _read_sign(self, heart: Heartbeat, rank: int, sign: WorkerSign) -> WorkerSign:
        """Return the sign with what the worker did last, if it is of this host: its last beat may be older."""
        progress = heart.progress([rank])[rank]
        activity = None if progress is None else Activity.from_text(progress.phase)
        if activity is None or activity.host != self._host:
            return sign
        read = read_page(activity.pid, activity.page)
        if read is None or not read.phase:
            return sign
        phase = meaning_of(read.place) if read.place else read.phase
        return dataclasses.replace(sign, phase=phase, step=step_of(read.steps, phase), waits=bool(read.place))

    def _own_sign(self) -> WorkerSign:
        phase, waits, _ = self.notes.now()
        limit = self._limit_s(phase, self.notes.first)
        return WorkerSign(0.0, self._still_s, limit, self.notes.step, phase, waits)

    def _limit_s(self, phase: str, first: bool) -> float:
        return math.inf if phase == START else self._limits_s[first]

    def _blame_store(self) -> Hang | None:
        """Return the hang if the store does not answer, which rank 0 serves; None while this worker goes on."""
        if self._still_s < self._own_sign().limit_s:
            return None
        text = f"rank 0, which serves the store of the process group, has not answered for {self._still_s:.0f} s"
        return Hang(text, (0,), self.notes.step, "unknown")

    def _ask_for_stacks(self, heart: Heartbeat, hang: Hang) -> None:
        if self._folder is None:
            return
        for progress in heart.progress([rank for rank in hang.peers if rank != self._rank]).values():
            activity = None if progress is None else Activity.from_text(progress.phase)
            if activity is not None and activity.host == self._host:
                ask_for_stacks(activity.pid)

    def _note(self, hang: Hang) -> WorkerHung:
        """Write where this worker is, and return the error that it ends with."""
        where = "" if self._folder is None else f"; stack traces are in {self._folder}"
        text = f"{hang.text}{where}"
        self.hang = WorkerHung(text, rank=self._rank, peers=hang.peers, step=hang.step, phase=hang.phase)
        if self._stacks is not None:
            self._stacks.write(hang.text)
        return self.hang

    def _end(self, hang: Hang) -> None:
        """End what this worker waits in; end the process if it does not leave."""
        error = self._note(hang)
        self._ending.wait(_TELL_BEATS * self._interval_s)  # others hear of it before connections break
        if self.notes.waits is not None:
            self.notes.waits.give_up(error)
        if not self._ending.wait(_GRACE_S):
            self._on_hang(error)


def _end_process(error: WorkerHung) -> None:
    os._exit(1)
