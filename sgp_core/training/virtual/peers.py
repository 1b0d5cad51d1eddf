"""The virtual workers of one process, in the place of processes that agree on a few numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sgp_core.training.gossiping import GossipingWorkers
from sgp_core.training.peers import Peers
from sgp_core.training.virtual.workers import VirtualWorkers

_REST_S = 30.0
"""An epoch of many virtual workers may be a step, and a checkpoint holds the models of all of them."""


class VirtualPeers(Peers):
    """All workers, in this process: what they agree on is what it says."""

    def __init__(self, workers: int) -> None:
        super().__init__(torch.device("cpu"))
        self.rank, self.world_size = 0, workers
        self.processes = 1
        self.checkpoint_rest_s = _REST_S
        self.ranks = [0]

    def gather(self, value: float) -> list[float]:
        """Return the value of this process."""
        return [value]

    def sum_of_parts(self, compute: Callable[[int, int], list[float]]) -> list[float]:
        """Return the numbers of the whole."""
        return compute(0, 1)

    def weights(self, gossip: GossipingWorkers) -> list[float]:
        """Return every worker's PushSum weight, by rank."""
        assert isinstance(gossip, VirtualWorkers)
        return gossip.push_sum_weights

    def of_replicas(self, gossip: GossipingWorkers, compute: Callable[[], list[float]]) -> list[list[float]]:
        """Return what comes out with the model of each worker, by rank."""
        assert isinstance(gossip, VirtualWorkers)
        found = []
        for worker in range(self.world_size):
            with gossip.replica(worker):
                found.append(compute())
        return found
