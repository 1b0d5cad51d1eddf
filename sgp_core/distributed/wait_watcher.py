"""The thread that looks where the training thread is, and where those of other workers are if it waits for long."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist

from sgp_core.distributed.phase_page import PhasePage
from sgp_core.distributed.positions import Position, Positions, advise, describe, is_deadlock
from sgp_core.distributed.process_group import break_connections
from sgp_core.errors import Deadlock, PeerLost

_LONGEST_PAUSE_S = 1.0
"""Between two looks at where the training thread is."""
_LOOKS = 4
"""A position is told to others once it has lasted for this part of the patience."""
_TELL_S = 5.0
"""How long to wait, before a wait is ended, until all that wait know why."""
_FIRST_PAUSE_S, _LAST_PAUSE_S = 1e-4, 0.05
"""Between two looks at whether all workers have come to a place."""
_STORE_S = 2.0
"""How long to wait for the store."""

_LOG = logging.getLogger("sgp_core")


class WaitingPlace(NamedTuple):
    """Where the training thread is: a new object each time it goes somewhere. Attributes as of :class:`Position`."""

    name: str
    collective: bool
    needs: int
    steps: int


@dataclass
class WaitNotes:
    """What the training thread notes of itself: plain attributes, which cost it next to nothing."""

    place: WaitingPlace = WaitingPlace("", False, 0, 0)  # noqa: RUF009 - a tuple does not change
    steps: int = 0
    entered: dict[str, int] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)
    page: PhasePage | None = None
    """Where others see the place while this worker is stopped; None: no watchdog looks at it."""
    ended: str = "ended"
    """Why it will wait nowhere any more, once it does not."""


class WaitWatcher:
    """Publishes where this worker is, once it stays there, and reads where others are, once it has waited for long.

    If all workers wait, in places that do not match, or have ended, none of them can go on: then one gives the verdict,
    every one that waits logs it, and ends its wait. If a worker is elsewhere, it may still come: that is logged, and
    the wait goes on. A run whose steps take less than a part of the patience touches the store at its start and its
    end only.

    Args:
        notes: of the training thread.
        board: where workers publish.
        group: the process group, whose connections are given up to end a wait.
        patience_s: seconds within which a wait without end is ended; after which who is missing is named.

    Attributes:
        interrupts: weak methods that end what waits in this process otherwise than for messages of the group.
    """

    def __init__(
        self, notes: WaitNotes, board: PositionBoard, group: dist.ProcessGroup | None, patience_s: float
    ) -> None:
        self.interrupts: list[Callable[[], Callable[[str], None] | None]] = []
        self._notes = notes
        self._board = board
        self._group = group
        self._patience_s = patience_s
        self._pause_s = min(_LONGEST_PAUSE_S, patience_s / _LOOKS)
        self._warn_after_s = patience_s
        self._place = notes.place
        self._since = time.monotonic()
        self._published = Position("Gossip(...)", collective=True)
        self._suspected: Positions | None = None
        self._verdict: DeadlockVerdict | None = None
        self._given_up: RuntimeError | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="waits of Gossip", daemon=True)

    @classmethod
    def start(
        cls, notes: WaitNotes, group: dist.ProcessGroup | None, rank: int, world_size: int, patience_s: float
    ) -> WaitWatcher | None:
        """Return a watcher at work; None where the process group has no store that two threads can use."""
        try:
            board = PositionBoard(group, rank, world_size)
            watcher = cls(notes, board, group, patience_s)
            board.publish(watcher._published)
        except (AttributeError, NotImplementedError, RuntimeError):
            return None
        watcher._thread.start()
        return watcher

    def meet(self, name: str, number: int) -> None:
        """Return once all workers have come to a collective place for the same time; sooner if the store is gone.

        A collective that began before could take what others average in a step for its own.

        Raises:
            Deadlock: not all of them will come.
            PeerLost: likewise, as a worker has ended.
        """
        pause = _FIRST_PAUSE_S
        with suppress(RuntimeError):  # without a store, the collective that follows finds out what is wrong
            self._board.arrive(name, number)
            while self.verdict() is None and not self._board.have_met(name, number):
                time.sleep(pause)
                pause = min(1.5 * pause, _LAST_PAUSE_S)
        error = self.verdict()
        if error is not None:
            self._ending.wait(_TELL_S)  # this process may end with the error: first let the others know why
            raise error

    def verdict(self) -> RuntimeError | None:
        """Return the error in which the wait of this worker has to end; None if there is none."""
        if self._given_up is not None:
            return self._given_up
        if self._verdict is None:
            return None
        text, ended = self._verdict
        if ended:
            return PeerLost(text, rank=self._board.rank, peers=ended, step=self._notes.steps)
        return Deadlock(text)

    def end(self) -> None:
        """End the thread, and tell others that this worker will not come any more."""
        self._ending.set()
        if threading.current_thread() is not self._thread:  # which may be the one that collects garbage
            self._thread.join(_STORE_S)
        with suppress(RuntimeError):
            self._board.publish(Position(steps=self._notes.steps, passed=self._notes.passed, ended=self._notes.ended))

    # -- the thread ----------------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        with suppress(RuntimeError):  # the store is gone, and the worker that had it; who waits for that one notices
            while not self._ending.wait(self._pause_s):
                self._look()

    def _look(self) -> None:
        place, now = self._notes.place, time.monotonic()
        if place is not self._place:
            self._place, self._since, self._suspected = place, now, None
        lasted = now - self._since
        stays = lasted >= self._patience_s / _LOOKS
        mine = self._position(place) if stays else Position(moving=True)
        if mine != self._published:
            self._board.publish(mine)
            self._published = mine
        if not (stays and place.name):
            return
        verdict = self._board.verdict()
        if verdict is None and lasted >= self._patience_s / 2:
            verdict = self._judge(lasted)
        if verdict is not None:
            self._end_wait(verdict)

    def _position(self, place: WaitingPlace) -> Position:
        return Position(place.name, place.collective, place.needs, place.steps, dict(self._notes.passed))

    def _judge(self, lasted: float) -> DeadlockVerdict | None:
        """Look where the others are: return the verdict if there is a deadlock, or warn of who is missing."""
        positions = self._board.positions()
        before, self._suspected = self._suspected, positions
        if is_deadlock(positions):
            if positions != before:
                return None  # one more look: a worker may just be on its way
            ended = [rank for rank, position in positions.items() if position is not None and position.ended]
            return self._board.decide(DeadlockVerdict(f"{describe(positions)}: {advise(positions)}", ended))
        here = (self._place.name, self._place.steps)
        apart = any(p is None or p.moving or (p.place, p.steps) != here for p in positions.values())
        if apart and lasted >= self._warn_after_s:
            self._warn_after_s = 2 * lasted  # what takes its time, such as an evaluation by one worker, does so again
            _LOG.warning("%s, for %.0f s now; it goes on waiting", describe(positions), lasted)
        return None

    def _end_wait(self, verdict: DeadlockVerdict) -> None:
        self._verdict = verdict
        _LOG.error("%s", verdict.text)
        with suppress(RuntimeError):  # the worker that has the store was faster
            self._board.confirm()
            until = time.monotonic() + _TELL_S
            while not self._board.have_all_confirmed() and time.monotonic() < until:
                time.sleep(self._pause_s / 10)
        self._break(verdict.text)
        self._ending.set()

    def give_up(self, error: RuntimeError) -> None:
        """End the wait of this worker with ``error``; for another thread to call."""
        self._given_up = error
        self._break(str(error))

    def _break(self, why: str) -> None:
        for method in self.interrupts:
            interrupt = method()
            if interrupt is not None:
                interrupt(why)
        break_connections(self._group)


class DeadlockVerdict(NamedTuple):
    """Why no worker can go on.

    Attributes:
        text: a sentence.
        ended: the ranks that have ended.
    """

    text: str
    ended: list[int]


class PositionBoard:
    """What workers tell each other through the store of the process group; RuntimeError if that is gone.

    Args:
        group: None for the default group.
        rank: of this worker in it.
        world_size: number of workers.
    """

    def __init__(self, group: dist.ProcessGroup | None, rank: int, world_size: int) -> None:
        self.rank = rank
        self._world_size = world_size
        name = (group or dist.distributed_c10d._get_default_group()).group_name
        store = (
            dist.distributed_c10d._get_default_store().clone()
        )  # which does not wait for what the original waits for
        store.set_timeout(timedelta(seconds=_STORE_S))
        number = store.add(f"sgp/waits/{name}/{rank}", 1)  # of all Gossips that this worker has built on the group
        self._store = dist.PrefixStore(f"sgp/waits/{name}/{number}", store)
        self._known: set[str] = set()  # keys that there are

    def publish(self, position: Position) -> None:
        """Tell where this worker is."""
        self._store.set(f"position/{self.rank}", position.to_json())

    def positions(self) -> dict[int, Position | None]:
        """Return where all workers are, as far as they have told."""
        return {rank: self._position(rank) for rank in range(self._world_size)}

    def _position(self, rank: int) -> Position | None:
        text = self._get(f"position/{rank}")
        return None if text is None else Position.from_json(text)

    def arrive(self, name: str, number: int) -> None:
        """Tell that this worker has come to a place for the ``number``-th time, once all have met for the last time."""
        self._store.add(f"met/{name}", 1)

    def have_met(self, name: str, number: int) -> bool:
        """Whether all workers have come to it as often. One counter tells: none comes again before all have come."""
        return int(self._store.get(f"met/{name}")) >= number * self._world_size

    def decide(self, verdict: DeadlockVerdict) -> DeadlockVerdict:
        """Give a verdict; return the one that was given first."""
        text = json.dumps(verdict)
        return DeadlockVerdict(*json.loads(self._store.compare_set("verdict", "", text) or text))

    def verdict(self) -> DeadlockVerdict | None:
        """Return the verdict, if there is one."""
        text = self._get("verdict")
        return None if text is None else DeadlockVerdict(*json.loads(text))

    def confirm(self) -> None:
        """Let the others know that this worker knows the verdict."""
        self._store.set(f"confirmed/{self.rank}", "1")

    def have_all_confirmed(self) -> bool:
        """Whether all workers that wait know the verdict."""
        return all(
            position is None or bool(position.ended) or self._store.check([f"confirmed/{rank}"])
            for rank, position in self.positions().items()
        )

    def _get(self, key: str) -> bytes | None:
        if key not in self._known:
            if not self._store.check([key]):
                return None
            self._known.add(key)
        return self._store.get(key)
