"""RelaySGD: on a tree, every worker's model reaches every other exactly once, relayed from neighbour to neighbour.

Vogels, He, Koloskova, Lin, Karimireddy, Stich, Jaggi, "RelaySum for Decentralized Deep Learning on Heterogeneous Data",
NeurIPS 2021, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sgp_core.algorithms.base import ALGORITHMS, Algorithm, Traits
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology

if TYPE_CHECKING:
    from sgp_core.tensors.flat_vector import FlatVector


@ALGORITHMS.register("relaysgd")
@dataclass(frozen=True)
class RelaySGD(Algorithm):
    """A local step to ``x'``, then the uniform average of all models, those of workers farther away being older::

        m_{i->j} = x'_i + sum_{k != j} m_{k->i} of the step before        for every neighbour j
        x_i <- (x'_i + sum_j m_{j->i}) / n

    where k and j go over the neighbours of i. So x'_j counts 1/n for worker i when it is as many steps old as there are
    workers between the two. What has not come yet counts as the first model, which is the same on all workers: the
    first messages are that model times the number of workers that would have been heard of. The paper keeps counts for
    this.

    Any optimizer: ``x'`` is what its step makes of x. A worker keeps two vectors per neighbour, and sends one to each.
    """

    traits: ClassVar[Traits] = Traits(one_exact_round=True, conserves_sum=False)

    def check(self, topology: Topology) -> None:
        if topology.period != 1 or behind(topology) is None:
            raise ConfigurationError(
                "algorithm 'relaysgd' needs a tree that never changes, which this topology is not; use spanning_tree,"
                " of shape binary, chain or random, or star"
            )

    def before_step(self, worker: Worker) -> None:
        if worker.step == worker.first_step:
            counts = behind(worker.network.topology)
            assert counts is not None, "check() was not asked"
            for slot, message in enumerate(self._received(worker)):
                message.copy_(worker.params).mul_(worker.network.own(counts[slot]))

    def receive(self, worker: Worker) -> None:
        received = self._received(worker)
        if not received:
            return  # alone
        x, total = worker.params, worker.network.scratch()
        total.copy_(x)
        for message in received:
            total.add_(message)
        outgoing = [worker.memory(f"to neighbour {slot}") for slot in range(len(received))]
        for message, mine in zip(received, outgoing, strict=True):
            mine.copy_(total).add_(message, -1.0)
        worker.network.swap(outgoing, received, worker.step)
        for message in received:
            x.add_(message)
        x.div_(float(worker.network.topology.world_size))

    def _received(self, worker: Worker) -> list[FlatVector]:
        slots = worker.network.in_degree(worker.step)
        return [worker.memory(f"from neighbour {slot}") for slot in range(slots)]


def behind(topology: Topology) -> np.ndarray | None:
    """Return how many workers each neighbour speaks for, ``[slots, n]`` in the order of in-peers; None if no tree."""
    edges, n = topology.edges(0), topology.world_size
    counts = np.zeros((edges.max_in_degree, n))
    if sum(map(len, edges.in_peers)) != 2 * (n - 1):
        return None
    for rank, peers in enumerate(edges.in_peers):
        for slot, peer in enumerate(peers):
            reached, ahead = {rank}, [peer]
            while ahead:
                here = ahead.pop()
                reached.add(here)
                ahead += [further for further in edges.in_peers[here] if further not in reached]
            counts[slot, rank] = len(reached) - 1
        if counts[:, rank].sum() != n - 1 or sorted(peers) != sorted(edges.out_peers[rank]):
            return None
    return counts
