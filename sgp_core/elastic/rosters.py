"""Who is a member from which step on: rosters in a store that outlives any worker. A roster that is written stays."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch.distributed as dist

from sgp_core.elastic.wire import Member
from sgp_core.errors import PeerLost

_POLL_S = 0.05


@dataclass(frozen=True)
class Seat:
    """A member in a roster.

    Attributes:
        address: host and port at which it can be reached.
        since: the step at which it joined; -1 for those that were there from the beginning.
    """

    member: Member
    address: tuple[str, int]
    since: int = -1


@dataclass(frozen=True)
class Roster:
    """The members from step ``first_step`` on, until the next roster.

    Attributes:
        epoch: the number of the roster, from 0.
        seats: the members, by rank.
    """

    epoch: int
    first_step: int
    seats: tuple[Seat, ...]

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The members, by rank."""
        return tuple(seat.member for seat in self.seats)

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Their ranks, ascending."""
        return tuple(member.rank for member in self.members)

    @cached_property
    def joiners(self) -> tuple[Member, ...]:
        """The members that join with this roster."""
        return tuple(seat.member for seat in self.seats if seat.since == self.first_step)

    def donor_of(self, joiner: Member) -> Member:
        """Return the member that gives ``joiner`` its model: another one for each rank, so that none gives to all."""
        others = [member for member in self.members if member not in self.joiners]
        return others[joiner.rank % len(others)]

    def to_json(self) -> str:
        """Return the roster as text."""
        seats = [[*seat.member, *seat.address, seat.since] for seat in self.seats]
        return json.dumps({"epoch": self.epoch, "first_step": self.first_step, "seats": seats})

    @classmethod
    def from_json(cls, text: str | bytes) -> Roster:
        """Return the roster that :meth:`to_json` made the text of."""
        content: dict[str, Any] = json.loads(text)
        seats = [Seat(Member(rank, life), (host, port), since) for rank, life, host, port, since in content["seats"]]
        return cls(content["epoch"], content["first_step"], tuple(sorted(seats, key=lambda seat: seat.member)))


class RosterStore:
    """The rosters of a run, and what workers have to say before there are any.

    Args:
        store: of torch.distributed. It must outlive the workers: a file, or a server in a process of its own.
        world_size: the number of ranks.
    """

    def __init__(self, store: dist.Store, world_size: int) -> None:
        self._store = dist.PrefixStore("sgp-elastic", store)
        self._world_size = world_size

    def enter(self, rank: int) -> Member:
        """Return the member that a new worker of ``rank`` is."""
        return Member(rank, int(self._store.add(f"life/{rank}", 1)))

    def announce(self, member: Member, address: tuple[str, int]) -> None:
        """Say where a member can be reached."""
        self._store.set(f"address/{member.rank}/{member.life}", json.dumps(address))

    def founders(self, timeout_s: float) -> tuple[Seat, ...]:
        """Wait for the latest worker of every rank to announce itself.

        Raises:
            PeerLost: ranks have not come in time.
        """
        until = time.monotonic() + timeout_s
        while True:
            seats = {rank: self._seat(rank) for rank in range(self._world_size)}
            found = [seat for seat in seats.values() if seat is not None]
            if len(found) == len(seats):
                return tuple(found)
            if time.monotonic() > until:
                missing = [rank for rank, seat in seats.items() if seat is None]
                raise PeerLost(f"ranks {missing} have not come within {timeout_s:g} s", rank=0, peers=missing)
            time.sleep(_POLL_S)

    def _seat(self, rank: int) -> Seat | None:
        life = int(self._store.add(f"life/{rank}", 0))
        key = f"address/{rank}/{life}"
        if not life or not self._store.check([key]):
            return None
        host, port = json.loads(self._store.get(key))
        return Seat(Member(rank, life), (host, port))

    def read(self, epoch: int) -> Roster | None:
        """Return the roster ``epoch``, if it has been written."""
        key = f"roster/{epoch}"
        return Roster.from_json(self._store.get(key)) if self._store.check([key]) else None

    def write(self, roster: Roster) -> Roster:
        """Write a roster, unless another of its number is there; return the one that is there then."""
        return Roster.from_json(self._store.compare_set(f"roster/{roster.epoch}", "", roster.to_json()))

    def latest(self) -> Roster | None:
        """Return the latest roster, if there is one."""
        roster, epoch = None, 0
        while (found := self.read(epoch)) is not None:
            roster, epoch = found, epoch + 1
        return roster

    def wait_for_first(self, timeout_s: float) -> Roster:
        """Wait for the first roster.

        Raises:
            PeerLost: it has not been written in time.
        """
        until = time.monotonic() + timeout_s
        while (roster := self.read(0)) is None:
            if time.monotonic() > until:
                raise PeerLost(f"the workers have not found each other within {timeout_s:g} s", rank=-1)
            time.sleep(_POLL_S)
        return roster
