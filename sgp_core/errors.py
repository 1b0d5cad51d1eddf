"""Error types: a user's mistake, and a lost peer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigurationError(ValueError):
    """A user's mistake: the message is one short sentence that says what is wrong, where, and what would be right."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known word in any letters, else ``"; known: a, b, c"``."""
    known = sorted(known)
    folded = {_fold(name): name for name in reversed(known)}
    near = difflib.get_close_matches(_fold(word), folded, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{folded[near[0]]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def _fold(word: str) -> str:
    return word.lower().replace("-", "_")


class PeerLost(RuntimeError):
    """Another worker ended, closed its connection or did not come in time; this one cannot go on without it.

    It is a consequence of another failure, so a run's cause of failure is looked for elsewhere first.

    Attributes:
        rank: the worker that raises it.
        peers: the ranks that are missing, as far as it is known which; empty if not.
        step: the step at which they were missed; None outside of steps.
    """

    def __init__(self, message: str, *, rank: int, peers: Iterable[int] = (), step: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank
        self.peers = tuple(peers)
        self.step = step


class WorkerHung(PeerLost):
    """A worker does not go on, or answers no more, for longer than it may. It is a cause, not a consequence.

    Attributes:
        rank: the worker that raises it.
        peers: the ranks that are missing; this worker's own, if it is the one.
        step: the step that they are in, from 1.
        phase: what they were doing, such as ``forward``, or where they were waiting.
    """

    def __init__(self, message: str, *, rank: int, peers: Iterable[int], step: int, phase: str) -> None:
        super().__init__(message, rank=rank, peers=peers, step=step)
        self.phase = phase


class Deadlock(RuntimeError):
    """Workers wait for each other in places that do not match, so that none of them can ever go on.

    It is a cause, not a consequence: the program lets workers call different things. The process group is given up.
    """


class Expelled(PeerLost):
    """The other members of an elastic run regard this worker as dead: it was stopped or cut off, and it must end.

    Nothing of the run is harmed; a new worker may take its place.
    """

    def __init__(self, message: str, rank: int) -> None:
        super().__init__(message, rank=rank)
