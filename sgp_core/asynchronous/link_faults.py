"""Faults of the links between asynchronous workers: messages that are lost, doubled, late or out of order.

Imports without torch: the launcher checks faults before any worker exists.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from sgp_core.algorithms.base import ALGORITHMS, OneSided
from sgp_core.errors import ConfigurationError
from sgp_core.transports.registry import AUTO
from sgp_core.validation import at_least, require

if TYPE_CHECKING:
    from sgp_core.algorithms.base import Algorithm

M = TypeVar("M")

MESSAGES = "p2p"
"""The transport whose links may have faults."""


@dataclass(frozen=True)
class LinkFaults:
    """What happens to messages: shares, and what confirms them. Requests to meet always arrive.

    The fate of a message is a function of the seed, its link and its number on that link, so that it can be had again.

    Args:
        drop: probability that a message is lost.
        duplicate: probability that it arrives twice; the second has a delay of its own.
        delay: probability that it is late, by 1 to ``delay_steps`` steps of its sender, all equally likely.
        delay_steps: the most steps.
        reorder: probability that it leaves behind the next on its link, or, if none follows, after ``delay_steps``.
        seed: of everything that is decided by chance.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_steps: int = 1
    reorder: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drop", "duplicate", "delay", "reorder"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"faults of links: {name}", "a probability from 0 to 1", value)
        at_least(1, "faults of links: delay_steps", self.delay_steps)

    def check(self, algorithm: Algorithm, transport: str = AUTO) -> None:
        """Refuse an algorithm that cannot do with such links, and a transport that has none.

        Raises:
            ConfigurationError: its workers wait for each message, or change two models together; or nothing is sent.
        """
        if transport not in (AUTO, MESSAGES):
            raise ConfigurationError(
                f"transport '{transport}' has no messages that could be lost or late; use transport={MESSAGES} for"
                " links with faults"
            )
        way = algorithm.traits.one_sided
        if way is OneSided.mailbox:
            return
        name = ALGORITHMS.name_of(type(algorithm))
        if way is OneSided.pairs:
            why = "changes two models together or not at all, so it needs links that lose nothing"
        else:
            why = "waits for every message of a step, so it would wait for a lost one for ever"
        raise ConfigurationError(f"algorithm '{name}' {why}; links with faults are for algorithm 'asgp'")

    def fate(self, sender: int, receiver: int, number: int) -> Fate:
        """Return what happens to message ``number`` of a link."""
        dice = random.Random(f"{self.seed}/{sender}/{receiver}/{number}")
        drop, duplicate, reorder = (dice.random() < p for p in (self.drop, self.duplicate, self.reorder))
        delays = [dice.randint(1, self.delay_steps) if dice.random() < self.delay else 0 for _ in range(1 + duplicate)]
        return Fate(() if drop else tuple(delays), reorder)


@dataclass(frozen=True)
class Fate:
    """What happens to one message.

    Attributes:
        delays: of each copy that arrives, in steps of the sender.
        overtaken: whether the next message of the link leaves first.
    """

    delays: tuple[int, ...] = (0,)
    overtaken: bool = False


@dataclass
class _Late(Generic[M]):
    due: int
    overtaken: bool
    message: M


class FaultyLink(Generic[M]):
    """One direction between two workers. Its owner, the sender, passes on what is returned, in order.

    Args:
        faults: of all links.
        sender, receiver: the ranks.
    """

    def __init__(self, faults: LinkFaults, sender: int, receiver: int) -> None:
        self._faults = faults
        self._ends = sender, receiver
        self._sent = 0
        self._late: list[_Late[M]] = []

    @property
    def late(self) -> list[M]:
        """The messages that have not left yet."""
        return [late.message for late in self._late]

    def send(self, step: int, message: M) -> list[M]:
        """Send a message at the sender's ``step``; return what leaves now."""
        fate = self._faults.fate(*self._ends, self._sent)
        self._sent += 1
        now: list[M] = []
        for delay in fate.delays:
            if fate.overtaken or delay:
                wait = self._faults.delay_steps if fate.overtaken else delay
                self._late.append(_Late(step + wait, fate.overtaken, message))
            else:
                now.append(message)
        if not now:
            return []  # what is lost or late overtakes nothing
        behind = [late for late in self._late if late.overtaken]
        self._late = [late for late in self._late if not late.overtaken]
        return now + [late.message for late in behind]

    def advance(self, step: int) -> list[M]:
        """Return what leaves when the sender comes to ``step``, the latest last."""
        leaving = sorted((late for late in self._late if late.due <= step), key=lambda late: late.due)
        self._late = [late for late in self._late if late.due > step]
        return [late.message for late in leaving]

    def flush(self) -> list[M]:
        """Return all that has not left: workers that meet wait for it."""
        leaving, self._late = self.late, []
        return leaving
