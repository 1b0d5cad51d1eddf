"""What a network of workers that wait for nobody does, whatever carries its vectors."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any, ClassVar

import torch.distributed as dist

from sgp_core.algorithms.adpsgd import partner
from sgp_core.flat import Flat, Scalar
from sgp_core.runtime.distributed import DistributedNetwork
from sgp_core.runtime.events import Event, Staleness
from sgp_core.runtime.transports import Content
from sgp_core.topology import Topology

LOOK_SECONDS = 0.001
"""Between two looks at how far a peer is."""

Seen = tuple[tuple[int, int], ...]
"""What was used, as in :attr:`Event.seen`."""


class WaitlessNetwork(DistributedNetwork):
    """What workers without a common step have in common: what they remember, and the moments when all meet.

    Args:
        topology: who talks to whom.
        group: the process group in which all meet.
        params: the model's parameters, on the CPU.
        record_events: whether to remember what was used when, see :attr:`events`.

    Attributes:
        staleness: how old what was used was.
        events: what was used when; None if nobody wants to know.
    """

    medium: ClassVar[str]
    """The name of the transport."""

    def __init__(
        self, topology: Topology, group: dist.ProcessGroup | None, params: Flat, *, record_events: bool = False
    ) -> None:
        super().__init__(topology, group)
        self._params = params
        self._scratch = params.zeros_like()
        self.staleness = Staleness()
        self.events: list[Event] | None = [] if record_events else None
        self._steps = 0
        self._closed = False

    # -- what rules ask for --------------------------------------------------------------------------------------------
    def scratch(self) -> Flat:
        """Return memory laid out like the model that nobody else uses."""
        return self._scratch

    def drain(self, x: Flat, weight: Scalar) -> Scalar:
        """Let all workers meet, add what is under way, and part. Collective, unlike everything else here."""
        weight = float(weight)
        if self._closed:
            return weight
        self._gather()
        seen, weight = self._deliver(x, weight)
        self._part()
        if self.events is not None:
            self.events.append(Event(self.rank, self._steps, seen=seen, meeting=True))
        return weight

    # -- calling the others --------------------------------------------------------------------------------------------
    @abstractmethod
    def call(self) -> None:
        """Ask all workers, without waiting, to come and meet."""

    @property
    @abstractmethod
    def called(self) -> bool:
        """Whether a worker has called since the last meeting."""

    # -- messages in flight --------------------------------------------------------------------------------------------
    @property
    def in_flight(self) -> bool:
        """Whether something may be: only a meeting can tell."""
        return not self._closed

    def in_flight_content(self) -> dict[int, Content]:
        """Return nothing: a meeting leaves nothing under way."""
        return {}

    def load_in_flight(self, content: dict[int, Content]) -> None:
        """Do nothing: nothing was kept."""

    def begin(self, step: int) -> None:
        """Begin after ``step`` steps, from the parameters as they are now, with nothing under way. Collective."""
        self._gather()
        self._restart()
        self._went_on(step)
        self._part()

    @abstractmethod
    def close(self) -> None:
        """Let go; peers that still reach for this worker are told."""

    # -- inside --------------------------------------------------------------------------------------------------------
    @abstractmethod
    def _gather(self) -> None:
        """Return once all workers have come, and everything they have sent has landed. Collective."""

    @abstractmethod
    def _part(self) -> None:
        """Go on, once all workers have done what they had met for. Collective."""

    @abstractmethod
    def _deliver(self, x: Flat, weight: float) -> tuple[Seen, float]:
        """While all stand still, bring ``x`` and ``weight`` up to date; return what was seen."""

    @abstractmethod
    def _restart(self) -> None:
        """Forget what is under way; the parameters are the truth."""

    @abstractmethod
    def _reach(self, rank: int, step: int) -> None:
        """Raise RuntimeError if ``rank`` is gone."""

    def _went_on(self, steps: int) -> None:
        """Note, and let peers see, that this worker has done its part of ``steps`` steps."""
        self._steps = steps

    def _lost(self, rank: int, step: int) -> RuntimeError:
        return RuntimeError(
            f"rank {self.rank} lost rank {rank} at its step {step}: it has closed its Gossip or died; let all"
            " workers call gossip.finish() before any of them ends"
        )


class Mailboxes(WaitlessNetwork):
    """Shares are left with the receiver, who adds them when it next looks. See :class:`AsynchronousSGP`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._sent: list[int] = []  # at the latest push
        super().__init__(*arguments, **options)

    def push(self, x: Flat, step: int, weight: Scalar, *, hold: bool = False) -> Scalar:
        """Leave shares with the out-peers of ``step``; keep the rest in place.

        A peer that has not collected the last share, or stands still until all meet, gets none.

        Raises:
            RuntimeError: an out-peer is gone.
        """
        with self._timed("push", step, x):
            edges, weight = self.topology.edges(step), float(weight)
            kept = edges.own_weight[self.rank]
            self._sent.clear()
            for peer, share in zip(edges.out_peers[self.rank], edges.out_weights[self.rank], strict=True):
                self._reach(peer, step)
                if self._accepts(peer) and not hold:
                    self._put(peer, step, x, share, weight)
                    self._sent.append(peer)
                else:
                    kept += share
            self._went_on(step + 1)
            if kept != 1.0:
                x.mul_(kept)
            self.bytes_sent += len(self._sent) * (x.nbytes + 8)
            return kept * weight

    def collect(self, x: Flat, step: int, weight: Scalar, max_staleness: int | None) -> Scalar:
        """Add what lies in the mailbox; with ``max_staleness`` first wait for in-peers that are too far behind.

        Raises:
            RuntimeError: an in-peer that is waited for is gone.
        """
        with self._timed("pull", step, x):
            if max_staleness is not None:
                self._tell(step)
                self._wait_for(step - max_staleness, step)
            arrived, messages = self._take(x, wait=max_staleness is not None)
            for _, sent_at, seconds in messages:
                self.staleness.add(step - sent_at, seconds)
        if self.events is not None:
            seen = tuple((sender, sent_at) for sender, sent_at, _ in messages)
            self.events.append(Event(self.rank, step, tuple(self._sent), seen))
        return float(weight) + arrived

    def _wait_for(self, past: int, step: int) -> None:
        if past < 0:
            return
        for peer in self.topology.in_peers(self.rank, past):
            while self._steps_of(peer) <= past and not self.called:
                self._reach(peer, step)
                time.sleep(LOOK_SECONDS)

    def _tell(self, step: int) -> None:
        """Let out-peers know that ``step`` has been pushed, if they got nothing and cannot see it."""

    @abstractmethod
    def _accepts(self, peer: int) -> bool:
        """Whether ``peer`` has collected the last share, and does not stand still."""

    @abstractmethod
    def _put(self, peer: int, step: int, x: Flat, share: float, weight: float) -> None:
        """Leave ``share * x`` and ``share * weight`` with ``peer``."""

    @abstractmethod
    def _take(self, x: Flat, *, wait: bool) -> tuple[float, list[tuple[int, int, float]]]:
        """Add what lies here to ``x``; return its weight, and of each message sender, step, and age in seconds.

        Without ``wait``, what somebody is writing to at the moment stays.
        """

    @abstractmethod
    def _steps_of(self, peer: int) -> int:
        """Return after how many of its steps an in-peer is known to have pushed."""


class Pairs(WaitlessNetwork):
    """Every worker's model lies open, and the acting one of a pair averages both. See :class:`ADPSGD`.

    Who needs a model that is in use waits until it has been copied, never for a computation.
    """

    _seen = 0
    """The version of the own model that the parameters are a copy of."""
    _looked = 0.0
    """When they were copied."""

    def meet_partner(self, x: Flat, before: Flat, step: int) -> None:
        """Add ``x - before`` to this worker's open model, average it with that of its partner, and set ``x`` to it.

        Raises:
            RuntimeError: the partner is gone.
        """
        with self._timed("mix", step, x):
            other = partner(self.topology, self.rank, step)
            seen = self._average(x, before, other, step)
            missed = dict(seen)[self.rank] - self._seen
            self._seen += missed + 1
            self._went_on(step + 1)
            self.bytes_sent += (missed + (other is not None)) * x.nbytes
            self.staleness.add(missed, time.monotonic() - self._looked)
            self._looked = time.monotonic()
        if self.events is not None:
            self.events.append(Event(self.rank, step, () if other is None else (other,), seen))

    def _deliver(self, x: Flat, weight: float) -> tuple[Seen, float]:
        model, version = self._own()
        x.copy_(model)
        self.bytes_sent += (version - self._seen) * x.nbytes
        self._looked_at(version)
        return ((self.rank, version),), weight

    def _restart(self) -> None:
        model, version = self._own()
        model.copy_(self._params)
        self._looked_at(version)

    def _looked_at(self, version: int) -> None:
        self._seen = version
        self._looked = time.monotonic()

    @abstractmethod
    def _average(self, x: Flat, before: Flat, other: int | None, step: int) -> Seen:
        """Do what :meth:`meet_partner` does to the models, each of which then is one version on.

        Returns:
            The ranks of the pair, ascending, and the versions of their models before.
        """

    @abstractmethod
    def _own(self) -> tuple[Flat, int]:
        """Return this worker's open model and its version."""
