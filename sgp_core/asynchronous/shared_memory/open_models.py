"""Open models in shared memory."""

from __future__ import annotations

from sgp_core.asynchronous.carrier import Seen
from sgp_core.asynchronous.shared_memory.carrier import SharedMemoryCarrier
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import update_and_average_


class SharedOpenModels(SharedMemoryCarrier):
    """Every worker's model lies in its segment, and the acting one of a pair averages both there."""

    def average(self, x: FlatVector, before: FlatVector, partner: int | None, step: int, version: int) -> Seen:
        """Add ``x - before`` to this worker's open model, average it with the partner's, and set ``x`` to it."""
        ranks = sorted([self.rank] if partner is None else [self.rank, partner])  # in one order: no deadlock
        if partner is not None:
            self.check_alive(partner, step)
        segments = [self._segments[rank] for rank in ranks]
        for segment in segments:
            segment.lock(0, wait=True)
        try:
            seen = tuple((rank, segment.version) for rank, segment in zip(ranks, segments, strict=True))
            theirs = None if partner is None else self._segments[partner].vectors[0]
            untouched = self._mine.version == version
            update_and_average_(x, before, self._mine.vectors[0], theirs, untouched=untouched)
            for segment in segments:
                segment.version += 1
        finally:
            for segment in segments:
                segment.unlock(0)
        return seen

    def own(self) -> tuple[FlatVector, int]:
        """Return this worker's open model and its version."""
        return self._mine.vectors[0], self._mine.version
