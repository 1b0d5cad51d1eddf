"""Links that are slow, and links that lose, double, delay and reorder the messages of asynchronous workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.faults.base import FAULTS, Fault


@dataclass(frozen=True, kw_only=True)
class MessageFault(Fault):
    """What happens to some messages of asynchronous workers.

    Args:
        p: the probability that a message meets this.
        seed: of everything that is decided by chance.
    """

    entry: ClassVar[str]
    """The attribute of :class:`LinkFaults` that is ``p``."""
    p: float
    seed: int = 0

    def __post_init__(self) -> None:
        self.changes()

    def changes(self) -> LinkFaults:
        """Return links that have this fault alone."""
        return LinkFaults(**{self.entry: self.p, "seed": self.seed})  # type: ignore[arg-type]


@FAULTS.register("drop")
@dataclass(frozen=True, kw_only=True)
class DropMessages(MessageFault):
    """A message is lost."""

    entry = "drop"


@FAULTS.register("duplicate")
@dataclass(frozen=True, kw_only=True)
class DuplicateMessages(MessageFault):
    """A message arrives twice."""

    entry = "duplicate"


@FAULTS.register("delay")
@dataclass(frozen=True, kw_only=True)
class DelayMessages(MessageFault):
    """A message is late.

    Args:
        steps: by 1 to so many steps of its sender.
    """

    entry = "delay"
    steps: int = 10

    def changes(self) -> LinkFaults:
        """Return links that have this fault alone."""
        return LinkFaults(delay=self.p, delay_steps=self.steps, seed=self.seed)


@FAULTS.register("reorder")
@dataclass(frozen=True, kw_only=True)
class ReorderMessages(MessageFault):
    """A message leaves behind the next one."""

    entry = "reorder"


def link_faults(faults: Iterable[Fault]) -> LinkFaults | None:
    """Return what the links of asynchronous workers do to messages, by all of ``faults``; None: nothing."""
    changes: dict[str, float] = {}
    for fault in faults:
        if isinstance(fault, MessageFault):
            links = fault.changes()
            changes |= {name: value for name, value in vars(links).items() if value != getattr(LinkFaults, name)}
    return LinkFaults(**changes) if changes else None  # type: ignore[arg-type]
