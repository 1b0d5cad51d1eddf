"""A network of workers that never wait for each other, over a carrier."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch.distributed as dist

from sgp_core.asynchronous.carrier import Carrier, Seen
from sgp_core.runtime.events import Event, Staleness
from sgp_core.runtime.worker_network import WorkerNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology


class AsynchronousNetwork(WorkerNetwork):
    """What workers without a common step have in common: a record of what they used, and meetings of all.

    Args:
        topology: who sends to whom.
        group: the process group in which all meet.
        params: the model's parameters, on the CPU, alike on all workers.
        carrier: carries the vectors.
        record_events: whether to record what was used when, see :attr:`events`.
    """

    asynchronous: ClassVar[bool] = True

    def __init__(
        self,
        topology: Topology,
        group: dist.ProcessGroup | None,
        params: FlatVector,
        carrier: Carrier,
        *,
        record_events: bool = False,
    ) -> None:
        super().__init__(topology, group)
        self._params = params
        self._scratch = params.zeros_like()
        self.carrier = carrier
        self._steps = 0
        self._closed = False
        self.events = [] if record_events else None

    @property
    def transport_name(self) -> str | None:
        """The name of the carrier; None in a world of one."""
        return self.carrier.name if self.world_size > 1 else None

    # -- verbs that all rules have -------------------------------------------------------------------------------------
    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that nothing else uses."""
        return self._scratch

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Let all workers meet, add what is in flight, and part. Collective, unlike everything else here."""
        weight = float(weight)
        if self._closed:
            return weight
        self.carrier.assemble(self._steps)
        seen, weight = self._deliver(x, weight)
        self.carrier.disperse()
        if self.events is not None:
            self.events.append(Event(self.rank, self._steps, seen=seen, meeting=True))
        return weight

    def restart(self, step: int) -> None:
        """Start after ``step`` steps, from the parameters as they are now, with nothing in flight. Collective."""
        self.carrier.assemble(step)
        self._reset()
        self._complete(step)
        self.carrier.disperse()

    # -- meetings ------------------------------------------------------------------------------------------------------
    def request_meeting(self) -> None:
        """Ask all workers, without waiting, to meet."""
        self.carrier.request_meeting()

    @property
    def meeting_requested(self) -> bool:
        """Whether a worker has asked for a meeting since the last one."""
        return self.carrier.meeting_requested

    # -- state ---------------------------------------------------------------------------------------------------------
    @property
    def in_flight(self) -> bool:
        """Whether something may be in flight: only a meeting can tell."""
        return not self._closed

    def keep_in_flight(self) -> Callable[[], None]:
        """Return what does nothing: a meeting leaves nothing in flight."""
        return self.forget_in_flight

    def forget_in_flight(self) -> None:
        """Do nothing: peers add what is on its way when they next look, or meet."""

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Continue from :meth:`state_dict`, after ``step`` steps, with the model already loaded. Collective."""
        super().load_state_dict(state, step)
        self.restart(step)
        self.staleness = Staleness.of(state["staleness"])

    def close(self) -> None:
        """Let go of the carrier; peers that still try to reach this worker get :class:`PeerLost`."""
        self._closed = True
        self.carrier.close()

    # -- for subclasses ------------------------------------------------------------------------------------------------
    @abstractmethod
    def _deliver(self, x: FlatVector, weight: float) -> tuple[Seen, float]:
        """While all workers wait, bring ``x`` and ``weight`` up to date; return what was used."""

    @abstractmethod
    def _reset(self) -> None:
        """Drop what is in flight: the parameters are the truth."""

    def _complete(self, steps: int) -> None:
        """Note, and let peers see, that this worker has done its part of ``steps`` steps."""
        self._steps = steps
        self.carrier.publish(steps)
