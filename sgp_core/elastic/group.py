"""``ElasticGroup``: the workers of a run, some of which may die, be stopped or come while it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch.distributed as dist

from sgp_core.elastic.agreement import Agreement
from sgp_core.elastic.inbox import VectorInbox
from sgp_core.elastic.links import Links
from sgp_core.elastic.membership import Membership
from sgp_core.elastic.ring_sum import RingSums
from sgp_core.elastic.rosters import Roster, RosterStore
from sgp_core.elastic.wire import Frame, FrameKind, Member, decode, encode
from sgp_core.errors import ConfigurationError, Expelled, PeerLost
from sgp_core.tensors.flat_vector import FlatVector

Address = tuple[str, int]


@dataclass(frozen=True)
class Change:
    """Something that has happened to the members of a run.

    Attributes:
        event: ``left``: this member has noticed that others died. ``members``: a roster has come.
        step: this member's, in which it has noticed.
        first_step: the step from which the roster holds; for ``left``, this member's.
        epoch: the number of the latest roster.
        members: the ranks that are members, as far as known.
        left: ranks that have died, and how it was noticed.
        joined: ranks that join.
        coordinator: whether this member is the coordinator.
    """

    event: str
    step: int
    first_step: int
    epoch: int
    members: list[int]
    left: dict[int, str] = field(default_factory=dict)
    joined: list[int] = field(default_factory=list)
    coordinator: bool = False


class ElasticGroup:
    """The workers of an elastic run.

    Of the first ``world_size`` workers each waits for the others. A worker that comes when training has begun takes the
    place of one that is dead: it learns who the others are from the store, opens a link to each, and is a member from a
    step on that all agree on.

    Args:
        store: of torch.distributed, in which members leave their addresses. It must outlive them: a ``FileStore`` with
            ``world_size`` -1, or a server in another process.
        rank: this worker's, of ``world_size``. There is never more than one living worker of a rank.
        world_size: how many workers there are at the beginning, and at most.
        host: address that others reach this worker at; it listens there only.
        secret: known to the workers of this run only; others are not admitted.
        patience_s: seconds of silence after which a worker is dead.
        start_s: seconds within which the first workers must have come.
        on_change: called with every :class:`Change`, in a thread of the group's own.

    Attributes:
        rank, world_size: as given.

    Raises:
        PeerLost: the first workers have not come in time.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        world_size: int,
        *,
        host: str = "127.0.0.1",
        secret: str = "",
        patience_s: float = 4.0,
        start_s: float = 600.0,
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigurationError(f"rank must be in 0..{world_size - 1}, not {rank}")
        if not patience_s >= 1:
            raise ConfigurationError(
                f"patience_s must be at least 1 second, not {patience_s}: pings come twice a second"
            )
        self.rank, self.world_size = rank, world_size
        self._on_change = on_change or (lambda change: None)
        self._rosters = RosterStore(store, world_size)
        self.me = self._rosters.enter(rank)
        self.step = 0
        self.vectors = VectorInbox()
        self._states: dict[int, bytearray] = {}
        self.links = Links(self.me, host, secret.encode(), patience_s, self._place, self._deliver, self._lose)
        self._ready = threading.Event()
        self.membership = Membership(self.links, self._rosters, self._note)
        self.agreement = Agreement(self.links, self._participants, self.check)
        self.sums = RingSums(self.links)
        self._ready.set()
        self.founder = self._enter(start_s)

    def _enter(self, start_s: float) -> bool:
        """Find the others, if training has not begun; return whether this worker was there from the beginning."""
        self._rosters.announce(self.me, self.links.address)
        roster = self._rosters.latest()
        if roster is None and self.rank == 0:
            roster = self._rosters.write(Roster(0, 0, self._rosters.founders(start_s)))
        elif roster is None:
            roster = self._rosters.wait_for_first(start_s)
        if roster.epoch or self.me not in roster.members:
            return False
        self.membership.begin(roster)
        others = [one for one in roster.members if one != self.me]
        self.links.wait(
            lambda: all(self.links.is_linked(one) or not self.links.is_alive(one) for one in others), start_s
        )
        return True

    def join(self) -> None:
        """Become a member, which this worker was not from the beginning. Call it when all is ready for the first step.

        Raises:
            PeerLost: none of the members lives any more.
        """
        roster = self._rosters.latest()
        assert roster is not None, "there was one when this worker came"
        self.membership.begin(roster)
        self.links.trains = True
        asked: set[Member] = set()
        message = [memoryview(encode({"what": "join", "address": list(self.links.address)}))]
        while self.me not in (latest := self.membership.latest).members:
            self.check()
            living = self.membership.living(latest)
            if not living:
                raise PeerLost("none of the members lives any more", rank=self.rank)
            if all(self.links.is_linked(one) for one in living):  # else others might call while this one calls them
                for one in living:
                    if one not in asked and self.links.send(one, Frame(FrameKind.control), message) is not None:
                        asked.add(one)
            self.links.wait(lambda: self.me in self.membership.latest.members, 0.1)

    # -- what members ask ----------------------------------------------------------------------------------------------
    def roster_at(self, step: int) -> Roster:
        """Return the roster in force at ``step``, which this member begins; wait for it if it is being made."""
        return self.membership.begin_step(step)

    @property
    def members(self) -> list[int]:
        """The ranks of the latest roster's members that are alive."""
        return [one.rank for one in self.membership.living(self.membership.latest)]

    @property
    def coordinator(self) -> bool:
        """Whether this member is the lowest living rank: it writes what one of them has to write."""
        return self.members[0] == self.rank

    def check(self) -> None:
        """Raise if this member can take part no more.

        Raises:
            PeerLost: it has been expelled.
        """
        if self.membership.error is not None:
            raise self.membership.error

    def gather(self, values: Sequence[float]) -> dict[int, list[float]]:
        """Return the values of all living members, by rank. Collective; all get the same, whoever dies meanwhile."""
        return self.agreement.gather(self.step, [float(value) for value in values])

    def add_up(self, x: FlatVector) -> int:
        """Set ``x`` to its sum over all living members, in place; return their number. Collective.

        If a member dies meanwhile, the others do it again.

        Raises:
            Expelled: the others regard this member as dead.
        """
        kept = x.clone()
        while True:
            ranks = sorted(self.gather([]))
            members = [one for one in self.membership.roster_of(self.step).members if one.rank in ranks]
            if self.me not in members:  # the others have left it out meanwhile
                self.check()
                raise Expelled(f"{self.me} was regarded as dead by the others", self.rank)
            number = self.agreement.count
            try:
                self.sums.add_up(x, members, number)
                done = 1.0
            except PeerLost:
                done = 0.0
            if all(all(values) for values in self.gather([done]).values()):
                return len(members)
            x.copy_(kept)

    # -- joining -------------------------------------------------------------------------------------------------------
    def joiners(self, step: int) -> list[Member]:
        """Return the members that begin with ``step``, as this one does now, and that it gives its state to."""
        roster = self.roster_at(step)
        if roster.first_step != step:
            return []
        return [one for one in roster.joiners if one != self.me and roster.donor_of(one) == self.me]

    def give_state(self, joiner: Member, step: int, state: bytes) -> None:
        """Begin to send this member's state to one that begins with ``step``."""
        self.links.send(joiner, Frame(FrameKind.state, step), [memoryview(state)])

    def wait_for_state(self) -> tuple[int, bytearray]:
        """Return the step that this member begins with, and the state of the one that it is to be like.

        Raises:
            PeerLost: that one has died.
        """
        roster = self.membership.first_of(self.me)
        donor, step = roster.donor_of(self.me), roster.first_step
        self.links.wait(lambda: step in self._states or not self.links.is_alive(donor) or self.membership.error)
        self.check()
        if step not in self._states:
            reason = self.links.dead.get(donor, "it has ended")
            raise PeerLost(f"{donor}, whose model {self.me} was to begin with, is gone: {reason}", rank=self.rank)
        return step, self._states.pop(step)

    # -- the end -------------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Part from the others, who go on without this member."""
        self.membership.close()
        self.links.close()

    def drop(self) -> None:
        """End without a word: for the others, this member dies. What waits in this one fails."""
        self.membership.fail(PeerLost(f"{self.me} has been ended", rank=self.rank))
        self.membership.close()
        self.links.drop()

    # -- what arrives (in the thread of the links) ---------------------------------------------------------------------
    def _place(self, sender: Member, frame: Frame) -> Sequence[memoryview] | None:
        if frame.kind != FrameKind.vector:
            return None
        with self.links.changed:
            return self.vectors.place(sender, frame)

    def _deliver(self, sender: Member, frame: Frame, body: bytearray | None) -> None:
        self._ready.wait()
        if frame.kind == FrameKind.vector:
            with self.links.changed:
                self.vectors.arrive(sender, frame)
                self.links.changed.notify_all()
        elif frame.kind == FrameKind.part:
            self.sums.take(frame, body or bytearray())
        elif frame.kind == FrameKind.state:
            with self.links.changed:
                self._states[frame.a] = body or bytearray()
                self.links.changed.notify_all()
        elif frame.kind == FrameKind.control:
            message = decode(body or b"{}")
            take = self.agreement.take if message["what"] in ("say", "result") else self.membership.take
            take(sender, message)

    def _lose(self, member: Member, reason: str) -> None:
        self._ready.wait()
        self.agreement.pass_on()
        if self.membership.has_begun and member in self.membership.latest.members:
            self.membership.accuse(member)
            self._tell("left", self.membership.latest, left={member.rank: reason})

    def _note(self, roster: Roster) -> None:
        if roster.epoch:
            self._tell("members", roster, joined=[one.rank for one in roster.joiners])

    def _tell(self, event: str, roster: Roster, **news: object) -> None:
        first_step = roster.first_step if event == "members" else self.step
        ranks = [one.rank for one in self.membership.living(roster)]
        leads = bool(ranks) and ranks[0] == self.rank
        self._on_change(
            Change(event, self.step, first_step, roster.epoch, ranks, coordinator=leads, **news)  # type: ignore[arg-type]
        )

    def _participants(self, step: int) -> list[Member]:
        """Who takes part in collectives before ``step``: a member that begins with it has not begun."""
        return [seat.member for seat in self.membership.roster_of(step).seats if seat.since < step]
