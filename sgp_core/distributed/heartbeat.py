"""Signs of life: each member says that it runs and what it does, and sees since when another has not said so."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple, TypeVar

import torch.distributed as dist

from sgp_core.distributed.member_records import MemberRecords, member_records

DEFAULT_INTERVAL_S = 0.5
ENDED = "ended"
"""The phase of a member that has stopped its heartbeat."""
_READ_FOR_S = 10.0
"""A member is read at each beat for so long after it was last asked for."""
_JOIN_S = 1.0
_ANNOUNCEMENT = "announcement"
_MISSED_BEATS = 4
"""Longer than so many intervals, this process did not run, or the store did not answer: that says nothing of others."""

M = TypeVar("M", int, str)


class Progress(NamedTuple):
    """What a member does.

    Attributes:
        step: the step that it is in, or comes to next.
        phase: what it does there, such as ``forward``.
        since_s: seconds for which it has done so, as this member has seen it.
    """

    step: int
    phase: str
    since_s: float


class Heartbeat:
    """Publishes through a store, from a thread of its own, that this member runs, and reads what others publish.

    A member that is stopped (SIGSTOP), has ended or hangs while it holds the interpreter's lock does not beat. One that
    waits, or hangs otherwise, does: its progress tells. No clock is compared with that of another host,
    and no time counts in which this process itself was suspended.

    Args:
        store: shared by the members, a TCPStore or a FileStore; a ``PrefixStore`` keeps several groups apart.
        member_id: of this member, such as its rank.
        interval_s: seconds between two beats.

    Raises:
        ConfigurationError: the store cannot be used by two threads.
        RuntimeError: the store is gone.
    """

    def __init__(self, store: dist.Store, member_id: int | str, interval_s: float = DEFAULT_INTERVAL_S) -> None:
        self.member_id = str(member_id)
        self.interval_s = interval_s
        self._store = store  # the file of a FileStore goes with the object
        self._state = _State(member_records(dist.PrefixStore("sgp/beats", store)), self.member_id, interval_s)
        self._thread = threading.Thread(target=self._state.run, name="heartbeat", daemon=True)
        self._end = weakref.finalize(self, _stop, self._state, self._thread)  # at the exit of the process as well

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to beat, and tell others that this member does not go on. A store that hangs is given up soon."""
        self._end()

    def report(self, step: int, phase: str) -> None:
        """Say what this member does from now on; it is published with the next beat. Costs next to nothing."""
        self._state.progress = (step, phase)

    def last_seen(self, member_ids: Iterable[M]) -> dict[M, float]:
        """Return for how many seconds the beat of each member has been the same, at the last look.

        Members are looked at from the first call on, and while calls come at least every few seconds: the first call
        returns 0. Never blocks. While the store does not answer, the numbers stay as they are: see
        :attr:`store_silent_s`.
        """
        return {member: self._state.sighting(str(member)).beat_age_s for member in member_ids}

    def progress(self, member_ids: Iterable[M]) -> dict[M, Progress | None]:
        """Return what each member does, at the last look; None: it has not said so. Looks as :meth:`last_seen` does."""
        return {member: self._state.sighting(str(member)).progress for member in member_ids}

    def announce(self, text: str) -> None:
        """Tell all members something, once: what one of them has announced first stays."""
        if self._state.announcement is None:
            self._state.to_announce = text

    @property
    def announcement(self) -> str | None:
        """What a member has announced, as far as this one has seen; None: nothing. Never blocks."""
        return self._state.announcement

    @property
    def store_silent_s(self) -> float:
        """Seconds since the store last answered this member; infinite once it is gone."""
        return self._state.silent_s()


class _Sighting:
    """What is known of one member."""

    def __init__(self, begin: float) -> None:
        self._text = ""
        self._did: tuple[int, str] | None = None
        self._changed = self._did_since = self._looked = begin
        self.asked = 0.0

    def look(self, text: str | None, at: float) -> None:
        """Take what the member has published."""
        if text is not None and text != self._text:
            parts = text.split(" ", 2)
            if len(parts) < 3 or not parts[1].lstrip("-").isdecimal():
                return  # it was being written
            self._text, self._changed = text, at
            did = (int(parts[1]), parts[2])
            if did != self._did:
                self._did, self._did_since = did, at
        self._looked = at

    @property
    def beat_age_s(self) -> float:
        return self._looked - self._changed

    @property
    def progress(self) -> Progress | None:
        return None if self._did is None else Progress(*self._did, self._looked - self._did_since)


class _State:
    """What the thread and its owner share. The thread does not keep the owner alive."""

    def __init__(self, records: MemberRecords, member: str, interval_s: float) -> None:
        self.progress = (0, "start")
        self.ending = threading.Event()
        self.to_announce: str | None = None
        self.announcement: str | None = None
        self._records = records
        self._member = member
        self._interval_s = interval_s
        self._count = time.time_ns()  # not that of an earlier process of the same member
        self._sightings: dict[str, _Sighting] = {}
        self._answered = time.monotonic()
        self._awake_s = 0.0  # does not run while this process is suspended, or the store hangs
        self._gone = False

    def run(self) -> None:
        """Beat until :attr:`ending` is set, or the store is gone."""
        try:
            while not self.ending.is_set():
                self.beat()
                self._look()
                self.ending.wait(self._interval_s)
        except (RuntimeError, OSError):
            self._gone = True

    def beat(self) -> None:
        """Publish that this member runs, and what it does."""
        self._count += 1
        step, phase = self.progress
        self._records.write(self._member, f"{self._count} {step} {phase}")

    def _look(self) -> None:
        now = time.monotonic()
        for member, sighting in list(self._sightings.items()):
            if now - sighting.asked > _READ_FOR_S + self._interval_s:
                del self._sightings[member]  # what it was last is no longer known
        watched = dict(self._sightings)
        texts = self._records.read({self._member, _ANNOUNCEMENT, *watched})
        now = time.monotonic()
        self._awake_s += min(now - self._answered, _MISSED_BEATS * self._interval_s)
        self._answered = now
        for member, sighting in watched.items():
            sighting.look(texts.get(member), self._awake_s)
        self.announcement = self.announcement or texts.get(_ANNOUNCEMENT)
        if self.to_announce is not None and self.announcement is None:
            self._records.write(_ANNOUNCEMENT, self.to_announce)
            self.announcement = self.to_announce

    def sighting(self, member: str) -> _Sighting:
        """Return what is known of a member, and look at it from now on."""
        now = time.monotonic()
        sighting = self._sightings.get(member)
        if sighting is None:
            sighting = self._sightings[member] = _Sighting(self._awake_s)
        sighting.asked = now
        return sighting

    def silent_s(self) -> float:
        """Return the seconds since the store last answered."""
        return float("inf") if self._gone else time.monotonic() - self._answered


def _stop(state: _State, thread: threading.Thread) -> None:
    state.ending.set()
    if thread.ident is None:
        return
    if thread is not threading.current_thread():  # which may be the one that collects garbage
        thread.join(_JOIN_S)
        if thread.is_alive():  # the store hangs: so would whoever asks it now
            return
    state.progress = (state.progress[0], ENDED)
    with suppress(RuntimeError, OSError):
        state.beat()
