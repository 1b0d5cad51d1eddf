"""What asynchronous workers did in which order, and how old the messages and gradients they used were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Event:
    """One step of one worker, or its part in a meeting of all.

    Attributes:
        worker: its rank.
        step: its own count of steps, from 0; at a meeting the steps it has completed.
        sent: the peers it sent to (``asgp``), or the partner it averaged with (``adpsgd``).
        seen: what it used. ``asgp``: sender, and the sender's step, of each message collected. ``adpsgd``: rank, and
            number of changes so far, of each open model touched.
        meeting: whether this is a meeting instead of a step: all workers waited, and what was in flight was added.
    """

    worker: int
    step: int
    sent: tuple[int, ...] = ()
    seen: tuple[tuple[int, int], ...] = ()
    meeting: bool = False


@dataclass
class Staleness:
    """The age of everything that a worker has used so far.

    Attributes:
        count: messages collected (``asgp``), or gradients applied (``adpsgd``).
        steps: sum of the ages in steps: the worker's own step less the sender's, negative if the sender is ahead
            (``asgp``); averages that partners made of the model while the gradient was computed (``adpsgd``).
        most_steps: the largest of them; None before the first.
        recent_most_steps: the largest age in steps since the last :meth:`take_recent_most`.
    """

    count: int = 0
    steps: int = 0
    most_steps: int | None = None
    recent_most_steps: int | None = None

    def add(self, steps: int) -> None:
        """Count one."""
        self.count += 1
        self.steps += steps
        self.most_steps = steps if self.most_steps is None else max(steps, self.most_steps)
        self.recent_most_steps = steps if self.recent_most_steps is None else max(steps, self.recent_most_steps)

    @property
    def mean_steps(self) -> float:
        """Mean age in steps; 0 before the first."""
        return self.steps / self.count if self.count else 0.0

    def take_recent_most(self) -> int | None:
        """Return the largest age in steps since this was last called; None if nothing was used."""
        most, self.recent_most_steps = self.recent_most_steps, None
        return most

    def state(self) -> dict[str, Any]:
        """Return plain numbers from which :meth:`of` goes on."""
        return asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Staleness:
        """Return what :meth:`state` describes; other entries, which version 0.1 had, are left out."""
        return cls(**{field.name: state[field.name] for field in fields(cls) if field.name in state})
