"""What carries the vectors of asynchronous workers: how they meet, their mailboxes, and their open models."""

from __future__ import annotations

from typing import Protocol

from sgp_core.errors import PeerLost
from sgp_core.tensors.flat_vector import FlatVector

LOOK_SECONDS = 0.001
"""Pause between two looks at how far a peer is."""

Seen = tuple[tuple[int, int], ...]
"""What was used, as in :attr:`Event.seen`."""


class Carrier(Protocol):
    """A way from every worker to every other, by which all of them can also meet."""

    name: str
    """The name of the transport."""

    def request_meeting(self) -> None:
        """Ask all workers, without waiting, to meet."""

    @property
    def meeting_requested(self) -> bool:
        """Whether a worker has asked for a meeting since the last one."""

    def assemble(self, steps: int) -> None:
        """Return once all workers have come, this one after ``steps`` steps, and all they sent has landed. Collective.

        Raises:
            PeerLost: a worker is gone.
        """

    def disperse(self) -> None:
        """Go on, once all workers have done what they met for. Collective."""

    def publish(self, steps: int) -> None:
        """Let peers see that this worker has done its part of ``steps`` steps.

        Raises:
            PeerLost: a worker is known to be gone.
        """

    def check_alive(self, rank: int, step: int) -> None:
        """Return if ``rank`` can still be reached.

        Raises:
            PeerLost: it cannot.
        """

    def close(self) -> None:
        """Let go of resources; peers that still try to reach this worker get :class:`PeerLost`."""


class Mailboxes(Carrier, Protocol):
    """A mailbox per worker. At most one message of each sender lies in it, or is on its way."""

    def accepts(self, peer: int) -> bool:
        """Whether ``peer`` has collected this worker's last message, and is not waiting in a meeting."""

    def put(self, peer: int, step: int, x: FlatVector, share: float, weight: float) -> None:
        """Leave ``share * x`` and ``share * weight`` with ``peer``."""

    def resend(self, step: int) -> int:
        """Send again what may have been lost, where that is done; return how many shares."""

    def announce(self, step: int, peers: list[int]) -> None:
        """Let ``peers``, who got nothing at ``step`` and cannot see it, know that it has been pushed."""

    def take(self, x: FlatVector, *, wait: bool) -> tuple[float, Seen]:
        """Add what lies in this worker's mailbox to ``x``, and empty it; return its weight, and of what it was made.

        Without ``wait``, what a sender is writing to at the moment stays.
        """

    def take_assembled(self, x: FlatVector) -> tuple[float, Seen]:
        """Do so in a meeting, when all workers do and nothing is on its way."""

    def steps_of(self, peer: int) -> int:
        """Return after how many of its steps an in-peer is known to have pushed."""


class OpenModels(Carrier, Protocol):
    """A model per worker that its peers may change, with a version that counts the changes."""

    def average(self, x: FlatVector, before: FlatVector, partner: int | None, step: int, version: int) -> Seen:
        """Add ``x - before`` to this worker's open model, average it with the partner's, and set ``x`` to it.

        Both models are one version on then.

        Args:
            version: of the open model that ``before`` is a copy of.

        Returns:
            The ranks of the pair, ascending, and the versions of their models before.

        Raises:
            PeerLost: the partner is gone.
        """

    def own(self) -> tuple[FlatVector, int]:
        """Return this worker's open model and its version."""


def lost(rank: int, peer: int, step: int) -> PeerLost:
    """Return (to be raised by ``rank``) the error for a peer that is gone at ``rank``'s own ``step``."""
    return PeerLost(
        f"rank {rank} lost rank {peer} at its step {step}: it has closed its Gossip or died; let all workers call"
        " gossip.finish() before any of them ends",
        rank=rank,
        peers=(peer,),
        step=step,
    )
