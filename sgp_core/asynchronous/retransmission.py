"""A lost share is sent again: stop and wait, in steps. Executed by workers and by the simulator.

At most one share is under way on an edge anyway, see :class:`AsynchronousSGP`. Its sender keeps it until the receiver
says that it has added it, and sends it again if that takes too long. A share has the number of the step it was left
at; the receiver adds one only if its number is greater than the last one's, so copies and stale messages change
nothing. So nothing is lost and nothing is added twice, whatever is lost on the way, shares or what confirms them.

Running sums (Spiridonoff, Olshevsky, Paschalidis, "Robust Asynchronous Stochastic Gradient-Push", JMLR 21, 2020,
Algorithm 3) do the same with sums of all shares ever sent: these grow with the run, until float32 rounds away what is
new in them, and both ends need one. A share that is sent again is the same bits, and only the sender keeps it.

Imports without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from sgp_core.algorithms.base import Traits
    from sgp_core.asynchronous.link_faults import LinkFaults

C = TypeVar("C")

_MEMORY = 8
"""Acknowledgements over which the usual time until one comes is averaged."""
_MOST_STEPS = 64.0
"""The longest wait before a share is sent again."""


@dataclass
class UnconfirmedShare(Generic[C]):
    """A share that its receiver may not have added.

    Attributes:
        step: of the sender, at which it was left: its number.
        content: what the sender needs to send it again.
        sent_at: the step at which each copy was sent.
        wait: steps before the next copy.
    """

    step: int
    content: C
    sent_at: list[int]
    wait: float

    @property
    def copy(self) -> int:
        """The number of the latest copy, from 0."""
        return len(self.sent_at) - 1


class SendingEnd(Generic[C]):
    """The sender's end of one edge. Steps are the sender's.

    A share is sent again after twice the time that acknowledgements usually take, then after twice as long, and so on.
    An acknowledgement names the copy that it is for, so that what is lost is not taken for slow.

    Attributes:
        share: what is not acknowledged yet; None: the next may leave.
    """

    def __init__(self) -> None:
        self.share: UnconfirmedShare[C] | None = None
        self._usual = 1.0

    def leave(self, step: int, content: C) -> None:
        """Keep a share that is being sent for the first time."""
        self.share = UnconfirmedShare(step, content, [step], 2 * self._usual)

    def acknowledge(self, number: int, copy: int, step: int) -> C | None:
        """Note at ``step`` that share ``number`` has been added, of which a copy had come; return its content.

        What has been acknowledged before changes nothing: None.
        """
        share = self.share
        if share is None or share.step != number:
            return None
        self._usual += (max(step - share.sent_at[copy], 1) - self._usual) / _MEMORY
        return self.settle()

    def due(self, step: int) -> UnconfirmedShare[C] | None:
        """Return the share if it is to be sent again at ``step``."""
        share = self.share
        if share is None or step - share.sent_at[-1] < share.wait:
            return None
        share.sent_at.append(step)
        share.wait = min(2 * share.wait, _MOST_STEPS)
        return share

    def settle(self) -> C | None:
        """Forget the share: it has been added, or is about to be. Return its content."""
        share, self.share = self.share, None
        return None if share is None else share.content


def retransmits(traits: Traits, faults: LinkFaults | None) -> bool:
    """Whether shares are sent again; where a rule does not say, they are if links have faults."""
    return faults is not None if traits.retransmits is None else traits.retransmits
