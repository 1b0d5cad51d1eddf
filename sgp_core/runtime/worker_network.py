"""What every network of a real worker has: a process group, its collectives, and what communication has cost."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch.distributed as dist

from sgp_core.compression import Codec
from sgp_core.distributed.collectives import Collectives
from sgp_core.distributed.comm_stats import CommunicationStats
from sgp_core.distributed.process_group import break_connections
from sgp_core.runtime.events import Event, Staleness
from sgp_core.runtime.travelling_means import TravellingMeans, bytes_of_mean
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.timeline import Marks, Timeline, now
from sgp_core.topology import Topology


class WorkerNetwork(CommunicationStats, ABC):
    """The network of one worker: what :class:`Gossip` asks of it beside the verbs that rules use.

    Subclasses add the verbs of :class:`sgp_core.algorithms.Network` or of :class:`sgp_core.algorithms.OneSidedNetwork`.

    Args:
        topology: who sends to whom.
        group: the process group, None for the default one; without torch.distributed, a world of one.

    Attributes:
        rank: this worker's rank in the group.
        world_size: number of workers in the group.
        timeline: records every exchange of the steps it is interested in; None: nothing is recorded.
        staleness: how old what this worker used was; counted by asynchronous networks only.
        events: what this worker used when; None: not recorded.
        means: averages that are under way.
    """

    asynchronous: ClassVar[bool] = False
    """Whether each worker steps at its own pace. All of them then meet in :meth:`drain`, which is collective."""

    codes: bool = False
    """Whether what is sent is coded, so that ``references`` are part of the state."""

    def __init__(self, topology: Topology, group: dist.ProcessGroup | None) -> None:
        super().__init__()
        self.topology = topology
        self.group = group
        self.collectives = Collectives(group)
        self.rank, self.world_size = self.collectives.rank, self.collectives.size
        self.means = TravellingMeans(self.collectives)
        self.timeline: Timeline | None = None
        self.staleness = Staleness()
        self.events: list[Event] | None = None

    @property
    @abstractmethod
    def transport_name(self) -> str | None:
        """The name of what carries vectors; None in a world of one."""

    # -- verbs that all networks have ----------------------------------------------------------------------------------
    @abstractmethod
    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next exchange."""

    @abstractmethod
    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Add everything in flight to ``x``, and return ``weight`` with its weights added."""

    def mean(self, x: FlatVector) -> None:
        """Replace ``x_i`` by the exact average over all workers, in place."""
        if self.world_size == 1:
            return
        with self._timed("mean", None, x):
            self.collectives.mean(x)
            self.bytes_sent += bytes_of_mean(x, self.world_size)

    def post_mean(self, x: FlatVector, key: int, codec: Codec | None = None) -> None:
        """Let the average of ``x`` begin to travel; with a codec, ``x`` becomes what its codes leave out."""
        with self._timed("mean", None, x):
            self.bytes_sent += self.means.post(x, key, codec)

    def forward_mean(self, key: int) -> None:
        """Let the second half of a coded average's way begin, once the first is over."""
        with self._timed("mean", None, None):
            self.means.forward(key)

    def take_mean(self, key: int) -> FlatVector:
        """Wait for it; return it in memory that is the caller's until the next :meth:`post_mean`."""
        with self._timed("mean", None, None):
            return self.means.take(key)

    def own(self, values: np.ndarray) -> Scalar:
        """Return this worker's element of ``values``, ``[n]``."""
        return float(values[self.rank])

    @property
    def ranks(self) -> list[int]:
        """The workers that this process is: this one alone."""
        return [self.rank]

    # -- meetings of asynchronous workers ------------------------------------------------------------------------------
    def request_meeting(self) -> None:
        """Ask all workers, without waiting, to meet; nothing to do where they step together."""

    @property
    def meeting_requested(self) -> bool:
        """Whether a worker has asked for a meeting since the last one."""
        return False

    # -- state ---------------------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def in_flight(self) -> bool:
        """Whether there may be messages that were sent and not yet added."""

    @abstractmethod
    def keep_in_flight(self) -> Callable[[], None]:
        """Wait until what is in flight has arrived; return what puts it in flight again, drained since or not."""

    @abstractmethod
    def forget_in_flight(self) -> None:
        """Wait until what is in flight has arrived, and give it up."""

    @property
    def model_travels(self) -> bool:
        """Whether the model is being sent from its own memory, and has to stay as it is until the next step."""
        return False

    def settle(self) -> None:
        """Wait until models that were sent ahead have arrived and left. They are still to be combined as they were."""

    def recall(self) -> None:
        """Do so, and let the model change: it is sent anew in the next step, by all workers or by none."""

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that this network cannot continue from, before anything is loaded.

        Raises:
            ValueError: only one of the saved network and this one codes what it sends.
        """
        if ("references" in state) != self.codes:
            raise ValueError("only one of the saved run and this one compresses what it sends")

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs, messages in flight included; tensors are copies."""
        return {
            "in_flight": {},
            "bytes_sent": self.bytes_sent,
            "staleness": self.staleness.state(),
            **({"means": means} if (means := self.means.content()) else {}),
        }

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Continue from :meth:`state_dict`, after ``step`` steps, with the model already loaded."""
        self.bytes_sent = int(state["bytes_sent"])

    def restart(self, step: int) -> None:
        """Begin after ``step`` steps from the model as it is, alike on all workers, with nothing in flight."""

    def interrupt(self, why: str) -> None:
        """Let what waits for peers fail, for the reason ``why``; for another thread to call. Nothing works any more."""
        break_connections(self.group)

    def close(self) -> None:
        """Give up what is in flight and let go of resources; the process group stays usable."""
        self.forget_in_flight()
        self.means.forget()

    # -- for subclasses ------------------------------------------------------------------------------------------------
    @contextmanager
    def _timed(self, verb: str, step: int | None, x: FlatVector | None) -> Iterator[Marks | None]:
        """Count the seconds inside; where a timeline records, give it what the transport notes."""
        start = time.perf_counter()
        timeline = self.timeline if self.timeline is not None and self.timeline.recording else None
        begin, marks = (now(), Marks()) if timeline is not None else (0, None)
        try:
            yield marks
        finally:
            self.seconds += time.perf_counter() - start
            if timeline is not None and marks is not None:
                nbytes = 0 if x is None else x.nbytes
                timeline.exchange(verb, begin, now(), step, nbytes, marks)
