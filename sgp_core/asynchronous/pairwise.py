"""Averaging in pairs, whatever carries the models."""

from __future__ import annotations

import time
from abc import abstractmethod

from sgp_core.algorithms.adpsgd import partner
from sgp_core.asynchronous.events import Event
from sgp_core.asynchronous.network import AsynchronousNetwork, Seen
from sgp_core.tensors.flat_vector import FlatVector


class PairwiseNetwork(AsynchronousNetwork):
    """Every worker's model lies open, and the acting one of a pair averages both. See :class:`ADPSGD`.

    Who needs a model that is in use waits until it has been copied, never for a computation.
    """

    _seen = 0
    """The version of the own model that the parameters are a copy of."""
    _looked = 0.0
    """When they were copied."""

    def meet_partner(self, x: FlatVector, before: FlatVector, step: int) -> None:
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

    def _deliver(self, x: FlatVector, weight: float) -> tuple[Seen, float]:
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
    def _average(self, x: FlatVector, before: FlatVector, other: int | None, step: int) -> Seen:
        """Do what :meth:`meet_partner` does to the models, each of which then is one version on.

        Returns:
            The ranks of the pair, ascending, and the versions of their models before.
        """

    @abstractmethod
    def _own(self) -> tuple[FlatVector, int]:
        """Return this worker's open model and its version."""
