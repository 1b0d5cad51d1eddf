"""How long collectives take: ring and tree AllReduce, and what the workers of a node do among themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sgp_core.clock.acts import Collective, CollectiveVerb
from sgp_core.clock.fluid import transfer
from sgp_core.clock.network import CollectiveKind
from sgp_core.clock.wiring import Wiring


@dataclass(frozen=True, eq=False)
class CollectiveCost:
    """What a collective costs.

    Attributes:
        seconds: from when all workers of a group are there until they go on.
        group: number of each worker's group, ``[workers]``.
        groups: how many there are.
        link_bytes: that pass each link, ``[links]``.
        sent: bytes that each worker sends, ``[workers]``.
    """

    seconds: float
    group: np.ndarray
    groups: int
    link_bytes: np.ndarray
    sent: np.ndarray


class CollectiveCosts:
    """The collectives of some workers, ``node_size`` consecutive ones of which are a gossip node."""

    def __init__(self, wiring: Wiring, node_size: int) -> None:
        self._wiring, self._node_size = wiring, node_size
        self._known: dict[Collective, CollectiveCost] = {}

    def of(self, act: Collective) -> CollectiveCost:
        """Return what it costs; remembered, since the network does not change."""
        if act not in self._known:
            self._known[act] = self._cost(act)
        return self._known[act]

    def _cost(self, act: Collective) -> CollectiveCost:
        workers = np.arange(self._wiring.workers)
        if act.inside:
            return self._exchange_all(act, workers // self._node_size)
        group = workers % self._node_size
        size = len(workers) // self._node_size
        nbytes = act.nbytes / self._node_size
        if size == 1:
            return CollectiveCost(
                0.0, group, self._node_size, np.zeros(len(self._wiring.names)), np.zeros(len(workers))
            )
        following = (workers + self._node_size) % len(workers)
        part = nbytes / size
        steps = 2 * (size - 1)
        seconds, delay = self._together(workers, following, part)
        if self._wiring.network.collective is CollectiveKind.tree:
            bytes_s = seconds - delay
            total = steps * bytes_s + 2 * math.ceil(math.log2(size)) * delay
        else:
            total = steps * seconds
        load = self._wiring.bytes_on_links(workers, following, part * steps)
        return CollectiveCost(total, group, self._node_size, load, np.full(len(workers), part * steps))

    def _exchange_all(self, act: Collective, group: np.ndarray) -> CollectiveCost:
        """Each worker sends its part to every other of its node: a reduce-scatter, or an all-gather."""
        assert act.verb is not CollectiveVerb.all_reduce, "those of nodes scatter and gather"
        size = self._node_size
        nodes = len(group) // size
        pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
        inside = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        ends = (np.arange(nodes)[:, None, None] * size + inside[None]).reshape(-1, 2)
        part = act.nbytes / size
        seconds, _ = self._together(ends[:, 0], ends[:, 1], part)
        load = self._wiring.bytes_on_links(ends[:, 0], ends[:, 1], part)
        return CollectiveCost(seconds, group, nodes, load, np.full(len(group), part * (size - 1)))

    def _together(self, senders: np.ndarray, receivers: np.ndarray, nbytes: float) -> tuple[float, float]:
        """Return how long messages take that all begin at once, the slowest of them, and the delays in that."""
        network, routes = self._wiring.network, self._wiring.routes(senders, receivers)
        left = transfer(routes, self._wiring.capacity, np.zeros(len(senders)), np.full(len(senders), nbytes))
        left /= network.collective_speed
        if network.collective_delay_ms is None:
            delay = routes.delay * (2 if network.rendezvous else 1) + 2 * network.cpu_ms_per_message / 1e3
        else:
            delay = np.full(len(senders), network.collective_delay_ms / 1e3)
        slowest = int(np.argmax(left + delay))
        return float(left[slowest] + delay[slowest]), float(delay[slowest])
