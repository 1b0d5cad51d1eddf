"""How the members of a run agree on who they are: when one dies or comes, a new roster holds from a common step on.

The *coordinator*, the lowest living rank, asks all members for a step that they will not begin before the next roster
is there (prepare, promise). The roster holds from the largest of these steps on, so no member has taken it yet. It is
written to the store, where the first of its number stays (there is never a second opinion), and then sent to all
(commit). Whatever instant the coordinator dies at, the next one finds the roster in the store or begins anew.

Members that are less than half of the last roster wait before they write one: if they were merely cut off, or stopped,
the others have written theirs by then, and who is not in it is expelled.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sgp_core.elastic.links import Links
from sgp_core.elastic.rosters import Roster, RosterStore, Seat
from sgp_core.elastic.wire import Frame, FrameKind, Member, encode
from sgp_core.errors import Expelled, PeerLost

_GATHER_S = 0.05
"""How long to wait for further deaths before a roster is made: they seldom come alone."""
_AHEAD_S = 0.25
"""How far ahead promises reach: a roster is agreed in less, so that no member has to wait for it."""
_MOST_STEPS_AHEAD = 25


class Membership:
    """The rosters that a member knows, and its part in making the next.

    Args:
        links: to the other members.
        store: of the rosters.
        on_roster: called with a roster that has come, in the thread that it has come in.

    Attributes:
        error: why this member can no longer take part; None if it can.
    """

    def __init__(self, links: Links, store: RosterStore, on_roster: Callable[[Roster], None]) -> None:
        self._links = links
        self._store = store
        self._on_roster = on_roster
        self._rosters: list[Roster] = []
        self._early: list[tuple[Member, dict[str, Any]]] = []
        """What others have said before this member knew of a roster."""
        self._fresh: deque[tuple[Roster | None, Roster]] = deque()
        """Rosters that have come and are not yet in force in the links, each with the one before."""
        self._requests: dict[Member, tuple[str, int]] = {}
        """Workers that wish to join, and their addresses."""
        self._promises: dict[Member, int] = {}
        """What members have promised for the next roster."""
        self._promised: int | None = None
        """What this member has."""
        self._begun, self._begun_at, self._step_s = -1, time.monotonic(), 0.0
        self._minority_since: float | None = None
        self.error: PeerLost | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="sgp-membership", daemon=True)

    def begin(self, roster: Roster) -> None:
        """Begin with the latest roster."""
        with self._links.changed:
            self._rosters = [roster]
            self._fresh.append((None, roster))
            for sender, message in self._early:
                self.take(sender, message)
        self._thread.start()

    @property
    def has_begun(self) -> bool:
        """Whether this member knows of a roster."""
        return bool(self._rosters)

    def close(self) -> None:
        """End, and leave rosters to others."""
        with self._links.changed:
            self._closed = True
            self._links.changed.notify_all()

    # -- what is known -------------------------------------------------------------------------------------------------
    @property
    def me(self) -> Member:
        """This member."""
        return self._links.me

    @property
    def latest(self) -> Roster:
        """The latest roster."""
        return self._rosters[-1]

    def roster_of(self, step: int) -> Roster:
        """Return the roster in force at ``step``, which has begun."""
        return next((one for one in reversed(self._rosters) if one.first_step <= step), self._rosters[0])

    def first_of(self, member: Member) -> Roster:
        """Return the first roster that ``member`` is in."""
        return next(one for one in self._rosters if member in one.members)

    def living(self, roster: Roster) -> list[Member]:
        """Return the members of a roster that are alive, as far as this one knows."""
        return [one for one in roster.members if one == self.me or self._links.is_alive(one)]

    def begin_step(self, step: int) -> Roster:
        """Return the roster in force at ``step``, which this member begins; wait for it if it is being made.

        Raises:
            PeerLost: this member has been expelled.
        """
        with self._links.changed:
            if self._promised is not None and step >= self._promised:
                self._links.wait(lambda: self.error or self._promised is None or step < self._promised)
            if self.error is not None:
                raise self.error
            self._links.trains = True
            if step > self._begun:
                now = time.monotonic()
                self._step_s = now - self._begun_at if self._begun >= 0 else 0.0
                self._begun, self._begun_at = step, now
            return self.roster_of(step)

    # -- what others say (in the thread of the links) ------------------------------------------------------------------
    def take(self, sender: Member, message: dict[str, Any]) -> None:
        """Take a message about rosters."""
        with self._links.changed:
            if not self._rosters:  # this member has not read the first yet
                self._early.append((sender, message))
                return
            if "last" in message:  # whoever spoke for the coordinator before may have died before it could tell all
                self._accept(Roster.from_json(message["last"]))
            if message["what"] == "prepare":
                self._links.send(sender, *_control({"what": "promise", **self._promise(int(message["epoch"]))}))
            elif message["what"] == "promise":
                if message["epoch"] == self.latest.epoch + 1:
                    self._promises[sender] = int(message["step"])
            elif message["what"] == "lost":
                self._believe(sender, Member(*message["member"]))
            elif message["what"] == "join":
                self._requests[sender] = tuple(message["address"])
                self._links.expect(sender)  # it is ready, and will be waited for
            elif message["what"] == "commit":
                self._accept(Roster.from_json(message["roster"]))
            self._links.changed.notify_all()

    def accuse(self, member: Member) -> None:
        """Tell the others that this member has lost ``member``, which they may not have noticed: a link may break."""
        message = _control({"what": "lost", "member": list(member)})
        for one in self.living(self.latest):
            if one != self.me:
                self._links.send(one, *message)

    def _believe(self, sender: Member, accused: Member) -> None:
        """The coordinator leaves out whom a member has lost: two that cannot reach each other cannot both go on."""
        living = self.living(self.latest)
        if living[0] == self.me and sender in living and accused in living and accused != self.me:
            self._links.bury(accused, f"{sender} has lost it")

    def _promise(self, epoch: int) -> dict[str, int]:
        """Promise not to begin a step before roster ``epoch`` is there; the same step each time it is asked for."""
        if epoch == self.latest.epoch + 1 and self._promised is None:
            ahead = min(max(int(_AHEAD_S / self._step_s), 1), _MOST_STEPS_AHEAD) if self._step_s > 0 else 1
            self._promised = max(self._begun, self.latest.first_step - 1) + 1 + ahead
        return {"epoch": epoch, "step": -1 if self._promised is None else self._promised}

    def _accept(self, roster: Roster) -> None:
        while self.latest.epoch + 1 < roster.epoch and (missed := self._store.read(self.latest.epoch + 1)) is not None:
            self._accept(missed)  # it was made before this member had asked to join
        if roster.epoch != self.latest.epoch + 1:
            return
        before = self.latest
        self._fresh.append((before, roster))
        self._rosters.append(roster)
        self._promised, self._minority_since = None, None
        self._promises.clear()
        for member in roster.members:
            self._requests.pop(member, None)
        if self.me in before.members and self.me not in roster.members:
            self.fail(
                Expelled(f"{self.me} was regarded as dead, and left out at step {roster.first_step}", self.me.rank)
            )
        self._links.changed.notify_all()

    def fail(self, error: PeerLost) -> None:
        """Let whatever waits in this member raise ``error``."""
        with self._links.changed:
            self.error = self.error or error
            self._links.changed.notify_all()

    # -- the coordinator (in a thread of its own) ----------------------------------------------------------------------
    def _run(self) -> None:
        try:
            while not self._closed and self.error is None:
                self._links.wait(lambda: self._closed or self.error or self._wanted() or self._fresh)
                while self._fresh:
                    self._enforce(*self._fresh.popleft())
                with self._links.changed:
                    wanted = self._wanted()
                if self._closed or self.error or not wanted:
                    continue
                if self.living(self.latest)[:1] == [self.me]:
                    self._make_roster()
                else:
                    self._look_for_roster()
        except (PeerLost, RuntimeError) as error:
            self.fail(error if isinstance(error, PeerLost) else Expelled(str(error), self.me.rank))

    def _wanted(self) -> bool:
        """Whether the latest roster is not right any more."""
        dead = any(not self._links.is_alive(one) for one in self.latest.members if one != self.me)
        return dead or any(self._links.is_alive(one) for one in self._requests)

    def _look_for_roster(self) -> None:
        """Look at the store from time to time: this member may have been left out without having been told."""
        epoch = self.latest.epoch + 1
        leads = lambda: self.living(self.latest)[:1] == [self.me]  # noqa: E731
        self._links.wait(lambda: self._closed or self.latest.epoch >= epoch or leads() or not self._wanted(), 1.0)
        if self.latest.epoch < epoch and (found := self._store.read(epoch)) is not None:
            with self._links.changed:
                self._accept(found)

    def _make_roster(self) -> None:
        last = self.latest
        time.sleep(_GATHER_S)
        roster = self._store.read(last.epoch + 1)  # of a coordinator that died before it could tell
        if roster is None:
            living = self.living(last)
            if not self._may_decide(living, last):
                return
            first_step = self._prepare(living, last.epoch + 1)
            if first_step is None:
                return  # one more has died
            roster = self._store.write(self._propose(last, first_step))
        with self._links.changed:
            commit = _control({"what": "commit", "last": last.to_json(), "roster": roster.to_json()})
            for member in {*last.members, *roster.members, *self._requests} - {self.me}:
                self._links.send(member, *commit)
            self._accept(roster)

    def _may_decide(self, living: list[Member], last: Roster) -> bool:
        """Whether these are most of the last roster, or have waited long enough for the others to decide."""
        if 2 * len(living) > len(last.members):
            return True
        now = time.monotonic()
        self._minority_since = self._minority_since or now
        if now - self._minority_since > 1.5 * self._links.patience_s:
            return True
        self._links.wait(lambda: self._closed or self.error, 0.1)
        return False

    def _prepare(self, living: list[Member], epoch: int) -> int | None:
        """Return the first step of the next roster; None if a member died meanwhile, or if it is there."""
        ask = _control({"what": "prepare", "epoch": epoch, "last": self.latest.to_json()})
        with self._links.changed:
            self._promises = {self.me: self._promise(epoch)["step"]}
            for member in living:
                self._links.send(member, *ask)
        self._links.wait(
            lambda: (
                self._closed
                or self.error
                or self.latest.epoch >= epoch  # another coordinator was faster
                or all(one in self._promises for one in living)
                or any(one != self.me and not self._links.is_alive(one) for one in living)
            )
        )
        with self._links.changed:
            complete = all(one in self._promises for one in living)
            return max(self._promises[one] for one in living) if complete and not self.error else None

    def _propose(self, last: Roster, first_step: int) -> Roster:
        with self._links.changed:
            seats = {seat.member: seat for seat in last.seats if seat.member in self.living(last)}
            for member, address in self._requests.items():
                if self._links.is_alive(member):
                    older = [one for one in seats if one.rank == member.rank]
                    if all(one.life < member.life for one in older):
                        for one in older:
                            del seats[one]
                        seats[member] = Seat(member, address, first_step)
        return Roster(last.epoch + 1, first_step, tuple(sorted(seats.values(), key=lambda seat: seat.member)))

    def _enforce(self, before: Roster | None, roster: Roster) -> None:
        """Part from members that a roster leaves out, and open links to those that it adds."""
        for gone in set(before.members if before else ()) - set(roster.members) - {self.me}:
            self._links.bury(gone, f"the others have left it out at step {roster.first_step}")
        for seat in roster.seats:
            calls = seat.member < self.me or self.me not in roster.members  # who wishes to join calls all
            if calls and not self._links.is_linked(seat.member) and self._links.is_alive(seat.member):
                self._links.connect(seat.member, seat.address)
        others = [one for one in roster.members if one != self.me]
        linked = lambda: all(self._links.is_linked(one) or not self._links.is_alive(one) for one in others)  # noqa: E731
        self._links.wait(lambda: self._closed or self.error or linked(), self._links.patience_s)
        for one in others:
            if not self._links.is_linked(one) and self._links.is_alive(one) and not self._closed:
                self._links.bury(one, f"no link to it was made within {self._links.patience_s:g} s")
        self._on_roster(roster)


def _control(message: dict[str, Any]) -> tuple[Frame, list[memoryview]]:
    return Frame(FrameKind.control), [memoryview(encode(message))]
