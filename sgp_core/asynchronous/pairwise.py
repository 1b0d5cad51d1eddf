"""Averaging in pairs, over any carrier."""

from __future__ import annotations

import torch.distributed as dist

from sgp_core.algorithms.adpsgd import partner
from sgp_core.asynchronous.carrier import OpenModels, Seen
from sgp_core.asynchronous.network import AsynchronousNetwork
from sgp_core.runtime.events import Event
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology


class PairwiseNetwork(AsynchronousNetwork):
    """Every worker's model is open to its peers, and the acting one of a pair averages both. See :class:`ADPSGD`.

    A worker that needs a model in use waits until it has been copied, never for a computation.

    Args:
        models: carry the open models. Other arguments as of :class:`AsynchronousNetwork`.
    """

    def __init__(
        self,
        topology: Topology,
        group: dist.ProcessGroup | None,
        params: FlatVector,
        models: OpenModels,
        *,
        record_events: bool = False,
    ) -> None:
        super().__init__(topology, group, params, models, record_events=record_events)
        self._models = models
        self._version = 0  # of the open model that the parameters are a copy of
        self.restart(0)

    def meet_partner(self, x: FlatVector, before: FlatVector, step: int) -> None:
        """Add ``x - before`` to this worker's open model, average it with that of its partner, and set ``x`` to it.

        Raises:
            PeerLost: the partner is gone.
        """
        with self._timed("mix", step, x):
            other = partner(self.topology, self.rank, step)
            seen = self._models.average(x, before, other, step, self._version)
            missed = dict(seen)[self.rank] - self._version
            self._complete(step + 1)
            self.bytes_sent += (missed + (other is not None)) * x.nbytes
            self.staleness.add(missed)
            self._version += missed + 1
        if self.events is not None:
            self.events.append(Event(self.rank, step, () if other is None else (other,), seen))

    def _deliver(self, x: FlatVector, weight: float) -> tuple[Seen, float]:
        model, version = self._models.own()
        x.copy_(model)
        self.bytes_sent += (version - self._version) * x.nbytes
        self._version = version
        return ((self.rank, version),), weight

    def _reset(self) -> None:
        model, version = self._models.own()
        model.copy_(self._params)
        self._version = version
