"""When asynchronous workers end their steps, and what has arrived by then: events in order of time."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from sgp_core.algorithms.adpsgd import partner
from sgp_core.algorithms.base import OneSided
from sgp_core.clock.computation import ComputationModel
from sgp_core.clock.traffic import Traffic
from sgp_core.clock.wiring import Wiring
from sgp_core.topology.base import Edges


class MessageFate(Protocol):
    """What happens to one message: the delay of each copy that arrives, in steps of its sender."""

    @property
    def delays(self) -> tuple[int, ...]:
        """Of each copy; none: it is lost."""


class Faults(Protocol):
    """What happens to messages, such as :class:`sgp_core.asynchronous.link_faults.LinkFaults`."""

    def fate(self, sender: int, receiver: int, number: int) -> MessageFate:
        """Return what happens to message ``number`` of a link."""


@dataclass(frozen=True)
class Arrival:
    """A share that has arrived.

    Attributes:
        sender: who left it.
        step: the sender's own step that it is of.
        seconds: when it was there.
    """

    sender: int
    step: int
    seconds: float


@dataclass(frozen=True)
class Turn:
    """A step of one worker is over.

    Attributes:
        rank: the worker.
        step: its own, from 0.
        seconds: when it was over.
        arrived: shares that have arrived since its step before, in the order in which they did.
    """

    rank: int
    step: int
    seconds: float
    arrived: tuple[Arrival, ...]


class _Message(NamedTuple):
    """A message under way."""

    sender: int
    receiver: int
    step: int
    reply: bool  # of a partner, to the worker that averages with it


class _Event(NamedTuple):
    seconds: float
    number: int  # events of one moment happen in the order in which they were foreseen
    rank: int
    message: _Message | None  # None: the worker has computed


class InTurn:
    """The clock of rules whose workers never wait for each other.

    Messages queue at both their ends: a link passes one after another, in the order in which they left.

    Attributes:
        elapsed: s until the latest event.
        computed, sent, link_bytes: as of :class:`sgp_core.clock.in_step.InStep`.
    """

    def __init__(
        self, wiring: Wiring, computation: ComputationModel, traffic: Traffic, seed: int, faults: Faults | None
    ) -> None:
        n = traffic.workers
        self.computed, self.sent, self.link_bytes = np.zeros(n), np.zeros(n), np.zeros(len(wiring.names))
        self.elapsed = 0.0
        self._wiring, self._computation, self._seed = wiring, computation, seed
        self._topology, self._nbytes, self._faults = traffic.topology, float(traffic.message_bytes), faults
        self._pairs = traffic.one_sided is OneSided.pairs
        self._staleness: int | None = getattr(traffic.algorithm, "max_staleness", None)
        self._steps = [0] * n
        self._capacity: list[float] = wiring.capacity.tolist()
        self._free = [0.0] * len(wiring.names)  # from when on each link passes the next message
        self._numbers: dict[tuple[int, int], int] = {}  # messages of each link so far
        self._late: list[list[tuple[int, _Message]]] = [[] for _ in range(n)]  # by sender: due at which step
        self._inbox: list[list[Arrival]] = [[] for _ in range(n)]
        self._heard: list[dict[int, int]] = [{} for _ in range(n)]  # by receiver: the latest step of each sender
        self._blocked: dict[int, float] = {}  # workers that wait for shares, since when
        self._events: list[_Event] = []
        self._foreseen = 0
        self._known: dict[int, tuple[list[float], Edges]] = {}
        self._ways: dict[tuple[int, int], tuple[tuple[int, ...], float, float]] = {}
        for rank in range(n):
            self._begin(rank, 0.0)

    def next_turn(self) -> Turn:
        """Return the next step that is over."""
        while True:
            event = heapq.heappop(self._events)
            self.elapsed = event.seconds
            if event.message is None:
                if (turn := self._computed(event.rank, event.seconds)) is not None:
                    return turn
            elif (turn := self._arrive(event.message, event.seconds)) is not None:
                return turn

    # -- steps -------------------------------------------------------------------------------------------------------
    def _begin(self, rank: int, seconds: float) -> None:
        durations, edges = self._of_step(self._steps[rank])
        messages = 2 * len(edges.out_peers[rank])  # as many come as leave
        cost = messages * self._wiring.network.cpu_ms_per_message / 1e3
        self._foresee(seconds + durations[rank] + cost, rank, None)

    def _of_step(self, step: int) -> tuple[list[float], Edges]:
        """Return how long each worker computes in a step of its own, and the graph of that step."""
        if step not in self._known:
            seconds = self._computation.seconds(step, len(self._steps), self._seed).tolist()
            self._known[step] = seconds, self._topology.edges(step)
            over = min(self._steps) - (self._staleness or 0)
            for old in [known for known in self._known if known < over]:
                del self._known[old]
        return self._known[step]

    def _computed(self, rank: int, seconds: float) -> Turn | None:
        """Let a worker push, or ask its partner; return its turn if it waits for nothing."""
        step = self._steps[rank]
        self.computed[rank] += self._of_step(step)[0][rank]
        if self._pairs:
            other = partner(self._topology, rank, step)
            if other is None:
                return self._end(rank, seconds)
            self._send(_Message(rank, other, step, False), seconds)
            return None
        for message in self._leaving(rank, step):
            self._send(message, seconds)
        if self._ready(rank):
            return self._end(rank, seconds)
        self._blocked[rank] = seconds
        return None

    def _end(self, rank: int, seconds: float) -> Turn:
        turn = Turn(rank, self._steps[rank], seconds, tuple(self._inbox[rank]))
        self._inbox[rank] = []
        self._steps[rank] += 1
        self._begin(rank, seconds)
        return turn

    def _ready(self, rank: int) -> bool:
        """Whether a worker has what ``max_staleness`` lets it not go on without."""
        if self._staleness is None or (wanted := self._steps[rank] - self._staleness) < 0:
            return True
        heard = self._heard[rank]
        return all(heard.get(peer, -1) >= wanted for peer in self._of_step(wanted)[1].in_peers[rank])

    # -- messages ----------------------------------------------------------------------------------------------------
    def _leaving(self, rank: int, step: int) -> list[_Message]:
        """Return the messages that leave a worker at a step: its shares, but those that faults keep, and late ones."""
        late = self._late[rank]
        leaving = [message for due, message in late if due <= step]
        self._late[rank] = [entry for entry in late if entry[0] > step]
        for receiver in self._of_step(step)[1].out_peers[rank]:
            message = _Message(rank, receiver, step, False)
            if self._faults is None:
                leaving.append(message)
                continue
            number = self._numbers.get((rank, receiver), 0)
            self._numbers[rank, receiver] = number + 1
            for delay in self._faults.fate(rank, receiver, number).delays:
                if delay:
                    self._late[rank].append((step + delay, message))
                else:
                    leaving.append(message)
        return leaving

    def _send(self, message: _Message, seconds: float) -> None:
        """Let a message pass its links once they are free."""
        links, limit, delay = self._way(message.sender, message.receiver)
        begins, left = seconds, seconds
        for link in links:  # its first byte passes one after another, and its last byte leaves the slowest last
            begins = max(begins, self._free[link])
            self._free[link] = begins + self._nbytes / self._capacity[link]
            self.link_bytes[link] += self._nbytes
            left = max(left, self._free[link])
        self.sent[message.sender] += self._nbytes
        there = max(left, begins + self._nbytes / limit) + delay
        self._foresee(there, message.receiver, message)

    def _arrive(self, message: _Message, seconds: float) -> Turn | None:
        """Take in a share, or answer a partner; return the turn of a worker that has waited for it."""
        receiver = message.receiver
        if message.reply:
            return self._end(receiver, seconds)
        if self._pairs:
            self._send(_Message(receiver, message.sender, message.step, True), seconds)
            return None
        self._inbox[receiver].append(Arrival(message.sender, message.step, seconds))
        heard = self._heard[receiver]
        heard[message.sender] = max(heard.get(message.sender, -1), message.step)
        if receiver in self._blocked and self._ready(receiver):
            del self._blocked[receiver]
            return self._end(receiver, seconds)
        return None

    def _way(self, sender: int, receiver: int) -> tuple[tuple[int, ...], float, float]:
        """Return the links between two workers, the most a message gets, and its delay."""
        if (sender, receiver) not in self._ways:
            peers = self._of_step(self._steps[sender])[1].out_peers  # all of one graph at once
            pairs = {(sender, receiver), *((a, b) for a, out in enumerate(peers) for b in out)}
            self._learn(sorted(pairs - self._ways.keys()))
        return self._ways[sender, receiver]

    def _learn(self, pairs: list[tuple[int, int]]) -> None:
        ends = np.array(pairs, dtype=np.int64)
        routes = self._wiring.routes(ends[:, 0], ends[:, 1])
        links: list[set[int]] = [set() for _ in pairs]
        for message, link in zip(routes.message.tolist(), routes.link.tolist(), strict=True):
            links[message].add(link)
        for pair, passed, limit, delay in zip(pairs, links, routes.limit.tolist(), routes.delay.tolist(), strict=True):
            self._ways[pair] = tuple(sorted(passed)), limit, delay

    def _foresee(self, seconds: float, rank: int, message: _Message | None) -> None:
        heapq.heappush(self._events, _Event(seconds, self._foreseen, rank, message))
        self._foreseen += 1

    # -- saving ------------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return plain data from which :meth:`load` goes on to the bit."""
        return {
            "computed": self.computed.tolist(),
            "sent": self.sent.tolist(),
            "link_bytes": self.link_bytes.tolist(),
            "steps": list(self._steps),
            "free": list(self._free),
            "numbers": [[*ends, number] for ends, number in self._numbers.items()],
            "late": [[[due, list(message)] for due, message in late] for late in self._late],
            "inbox": [[[a.sender, a.step, a.seconds] for a in inbox] for inbox in self._inbox],
            "heard": [list(map(list, heard.items())) for heard in self._heard],
            "blocked": list(map(list, self._blocked.items())),
            "events": [[*event[:3], None if event.message is None else list(event.message)] for event in self._events],
            "foreseen": self._foreseen,
            "elapsed": self.elapsed,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.computed, self.sent = np.array(state["computed"]), np.array(state["sent"])
        self.link_bytes = np.array(state["link_bytes"])
        self._steps, self._free = list(state["steps"]), list(state["free"])
        self._numbers = {(sender, receiver): number for sender, receiver, number in state["numbers"]}
        self._late = [[(due, _message(parts)) for due, parts in late] for late in state["late"]]
        self._inbox = [[Arrival(*parts) for parts in inbox] for inbox in state["inbox"]]
        self._heard = [dict(heard) for heard in state["heard"]]
        self._blocked = dict(state["blocked"])
        self._events = [
            _Event(seconds, number, rank, None if parts is None else _message(parts))
            for seconds, number, rank, parts in state["events"]
        ]
        self._foreseen, self._known = state["foreseen"], {}
        self.elapsed = state["elapsed"]


def _message(parts: Sequence[Any]) -> _Message:
    return _Message(*parts)
