"""AllReduce: synchronous data-parallel SGD, the baseline that gossip is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Traits
from sgp_core.algorithms.worker import Worker


@ALGORITHMS.register("allreduce")
@dataclass(frozen=True)
class AllReduce(Algorithm):
    """Every worker steps with the exact average of all gradients, so that all replicas stay equal.

    Gradients are averaged as soon as backward ends, before clipping: the result is that of torch's
    DistributedDataParallel. The topology plays no part.
    """

    traits: ClassVar[Traits] = Traits(reads_gradients=True, gossips=False)

    def on_gradients(self, worker: Worker) -> None:
        worker.network.mean(worker.grads)
