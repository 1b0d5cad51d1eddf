"""What a network of workers that wait for nobody does, whatever carries its vectors."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch.distributed as dist

from sgp_core.asynchronous.events import Event, Staleness
from sgp_core.runtime.network import DistributedNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology
from sgp_core.transports import MessageContent

LOOK_SECONDS = 0.001
"""Between two looks at how far a peer is."""

Seen = tuple[tuple[int, int], ...]
"""What was used, as in :attr:`Event.seen`."""


class AsynchronousNetwork(DistributedNetwork):
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
        self, topology: Topology, group: dist.ProcessGroup | None, params: FlatVector, *, record_events: bool = False
    ) -> None:
        super().__init__(topology, group)
        self._params = params
        self._scratch = params.zeros_like()
        self.staleness = Staleness()
        self.events: list[Event] | None = [] if record_events else None
        self._steps = 0
        self._closed = False

    # -- what rules ask for --------------------------------------------------------------------------------------------
    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that nobody else uses."""
        return self._scratch

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
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

    def in_flight_content(self) -> dict[int, MessageContent]:
        """Return nothing: a meeting leaves nothing under way."""
        return {}

    def load_in_flight(self, content: dict[int, MessageContent]) -> None:
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
    def _deliver(self, x: FlatVector, weight: float) -> tuple[Seen, float]:
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
