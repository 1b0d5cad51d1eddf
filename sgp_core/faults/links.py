"""Links that are slow, and links that lose, double, delay and reorder the messages of asynchronous workers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.errors import ConfigurationError
from sgp_core.faults.base import FAULTS, Fault, FaultTarget
from sgp_core.validation import at_least, positive


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


@FAULTS.register("slow_link")
@dataclass(frozen=True, kw_only=True)
class SlowLink(Fault):
    """What a worker sends takes longer: when a step is over, it sleeps in proportion to the bytes that it has sent.

    Args:
        mb_per_s: the rate of the link, in 10**6 bytes per second.
        rank: the worker that sends; None: every worker.
        peer: the worker that it sends to; None: all.
    """

    mb_per_s: float
    rank: int | None = None
    peer: int | None = None

    def __post_init__(self) -> None:
        positive("slow_link: mb_per_s", self.mb_per_s)
        at_least(0, "slow_link: rank", self.rank)
        at_least(0, "slow_link: peer", self.peer)

    def check(self, workers: int) -> None:
        """Refuse ranks that there are not."""
        for name, rank in (("rank", self.rank), ("peer", self.peer)):
            if rank is not None and rank >= workers:
                raise ConfigurationError(f"fault 'slow_link': {name}={rank}: ranks are 0 to {workers - 1}")

    @contextmanager
    def during(self, target: FaultTarget) -> Iterator[None]:
        """Be slow inside the block."""
        if self.rank not in (None, target.rank):
            yield
            return
        gossip = target.gossip
        sent = gossip.bytes_sent

        def take_time(*_: object) -> None:
            nonlocal sent
            new, sent = gossip.bytes_sent - sent, gossip.bytes_sent
            time.sleep(max(0.0, self._share(target) * new / (self.mb_per_s * 1e6)))

        hook = target.optimizers[-1].register_step_post_hook(take_time)
        try:
            yield
        finally:
            hook.remove()

    def _share(self, target: FaultTarget) -> float:
        """Return which part of what the worker has sent in its last step went over the link."""
        if self.peer is None:
            return 1.0
        peers = target.gossip.topology.out_peers(target.rank, max(target.gossip.step - 1, 0))
        return peers.count(self.peer) / len(peers) if peers else 0.0


def link_faults(faults: Iterable[Fault]) -> LinkFaults | None:
    """Return what the links of asynchronous workers do to messages, by all of ``faults``; None: nothing."""
    changes: dict[str, float] = {}
    for fault in faults:
        if isinstance(fault, MessageFault):
            links = fault.changes()
            changes |= {name: value for name, value in vars(links).items() if value != getattr(LinkFaults, name)}
    return LinkFaults(**changes) if changes else None  # type: ignore[arg-type]
