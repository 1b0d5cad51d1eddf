"""AD-PSGD: asynchronous decentralised SGD by averaging in pairs.

Lian, Zhang, Zhang, Liu, "Asynchronous Decentralized Parallel Stochastic Gradient Descent", ICML 2018, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, OneSided, Traits
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology
from sgp_core.topology.schedule import TopologySchedule

_STEPS = 64
"""Steps looked at where a topology has no period."""


@ALGORITHMS.register("adpsgd")
@dataclass(frozen=True)
class ADPSGD(Algorithm):
    """Gradients are taken at a copy of the model while partners average the model itself; both are brought together.

    ``x_i`` is open to the partners of worker i, ``x^_i`` is the copy its gradient was taken at::

        x_i <- x_i + (step of the user's optimizer at x^_i) - x^_i
        x_i, x_j <- (x_i + x_j) / 2       for the partner j of i's own step, if i is the one to act
        x^_i <- x_i

    Both of a pair get the same average of one consistent state, whatever the partner's computation is doing. Of an even
    and an odd rank the even one acts (the paper's active and passive workers), of any others the lower.
    """

    traits: ClassVar[Traits] = Traits(one_sided=OneSided.pairs, gossips=False)

    def check(self, topology: Topology) -> None:
        if isinstance(topology, TopologySchedule):
            for phase in topology.topologies:
                self.check(phase)
            return
        for step in range(topology.period or _STEPS):
            edges = topology.edges(step)
            for rank, (to, of) in enumerate(zip(edges.out_peers, edges.in_peers, strict=True)):
                if to != of or len(to) > 1 or edges.own_weight[rank] != (0.5 if to else 1.0):
                    raise ConfigurationError(
                        f"algorithm 'adpsgd' averages in pairs, and topology '{topology.name}' gives worker {rank} no"
                        f" such partner at step {step}; use bipartite_exponential, alternating_ring or random_matching"
                    )

    def before_step(self, worker: Worker) -> None:
        worker.one_sided.scratch().copy_(worker.params)

    def after_step(self, worker: Worker) -> None:
        worker.one_sided.meet_partner(worker.params, worker.one_sided.scratch(), worker.step)


def partner(topology: Topology, rank: int, step: int) -> int | None:
    """Return whom ``rank`` is to average with at its own ``step``; None if it idles or the other one acts."""
    peers = topology.out_peers(rank, step)
    if not peers:
        return None
    other = peers[0]
    acts = rank % 2 == 0 if (rank + other) % 2 else rank < other
    return other if acts else None
