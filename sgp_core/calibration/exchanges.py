"""How long exchanges of some size take among the workers: gossip to a peer inside a host or on another, and AllReduce.

What is timed is what a run does: steps of :class:`sgp_core.Gossip` over the transport that the run would use, with a
model that is one vector. What such a step takes without any exchange is taken off.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from sgp_core.algorithms import Algorithm, build_algorithm
from sgp_core.gossip import Gossip
from sgp_core.registry import NOT_AN_OPTION
from sgp_core.topology.base import Topology
from sgp_core.training.peers import Peers

SMALL, LARGE = 1 << 14, 1 << 24
"""Bytes of the smallest message, and of the largest that is tried."""
_GROWTH = 8
_REPEATS = 5
_WARM_UP = 2
_SHORT_S = 0.3
"""Exchanges get larger until one takes so long."""
_BUDGET_S = 1.0
"""For all repetitions of one size."""


@dataclass(frozen=True)
class Places:
    """Where the workers are: as many consecutive ranks on each host."""

    workers: int
    per_host: int

    @property
    def hosts(self) -> int:
        """Number of hosts."""
        return self.workers // self.per_host


@dataclass(frozen=True)
class Shifted(Topology):
    """Every worker sends to the one some ranks on, among all workers or those of its host."""

    shift: int = field(default=1, metadata=NOT_AN_OPTION)
    within: int = field(default=0, metadata=NOT_AN_OPTION)
    """Ranks of a host that the shift goes around in; 0: all."""

    def out_neighbors(self, rank: int, step: int) -> Sequence[int]:
        """Return the one peer."""
        around = self.within or self.world_size
        first = rank // around * around
        peer = first + (rank - first + self.shift) % around
        return [] if peer == rank else [peer]


Timings = list[tuple[int, float]]
"""Bytes of a message, and seconds that its exchange takes."""


def measure_exchanges(peers: Peers, device: torch.device, places: Places, transport: str) -> dict[str, Timings]:
    """Return timings of ``inside`` a host, ``across`` hosts, and ``all_reduce``; of those that there can be.

    Collective: all workers call it. What is returned is the slowest worker's, in the median of repetitions.
    """
    n = peers.world_size
    kinds: dict[str, tuple[Algorithm, Topology]] = {}
    if places.per_host > 1:
        kinds["inside"] = build_algorithm("sgp"), Shifted(n, within=places.per_host)
    if places.hosts > 1:
        kinds["across"] = build_algorithm("sgp"), Shifted(n, places.per_host)
    if n > 1:
        kinds["all_reduce"] = build_algorithm("allreduce"), Shifted(n)
    found: dict[str, Timings] = {kind: [] for kind in kinds}
    for kind, (algorithm, topology) in kinds.items():
        size = SMALL
        while size <= LARGE:
            seconds = _exchange(peers, device, algorithm, topology, transport, size)
            found[kind].append((size, seconds))
            if seconds > _SHORT_S:
                break
            size *= _GROWTH
    return found


def measure_lone_pair(peers: Peers, device: torch.device, size: int) -> float:
    """Return the seconds in which ranks 0 and 1 exchange ``size`` bytes while all others are idle. Collective."""
    import torch.distributed as dist

    mine, inbox = (torch.zeros(size // 4, device=device) for _ in range(2))

    def exchange() -> None:
        if peers.rank < 2:
            other = 1 - peers.rank
            works = [dist.irecv(inbox, other), dist.isend(mine, other)]
            for work in works:
                work.wait()  # type: ignore[union-attr]

    return _repeat(peers, exchange)


def _exchange(
    peers: Peers, device: torch.device, algorithm: Algorithm, topology: Topology, transport: str, size: int
) -> float:
    """Return the seconds that an exchange adds to a step of a model of ``size`` bytes."""
    took = []
    for rule, way in ((algorithm, transport), (build_algorithm("local_sgd", period=0), "auto")):
        model = nn.ParameterList([nn.Parameter(torch.zeros(size // 4, device=device))])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        parameter = next(iter(model.parameters()))
        gossip = Gossip(model, optimizer, algorithm=rule, topology=topology, transport=way)
        parameter.grad = torch.zeros_like(parameter)
        took.append(_repeat(peers, optimizer.step))
        gossip.finish()
        gossip.close()
    return max(took[0] - took[1], 1e-7)


def _repeat(peers: Peers, step: Callable[[], object]) -> float:
    """Return the seconds of ``step``, which all workers take together: the median of several series."""
    for _ in range(_WARM_UP):
        step()
    once = _slowest(peers, _time(peers, step, 1))
    count = max(1, min(20, int(_BUDGET_S / _REPEATS / max(once, 1e-6))))
    return statistics.median(_slowest(peers, _time(peers, step, count)) for _ in range(_REPEATS))


def _time(peers: Peers, step: Callable[[], object], count: int) -> float:
    peers.sum([0.0])  # all begin together
    began = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - began) / count


def _slowest(peers: Peers, seconds: float) -> float:
    return max(peers.gather(seconds))
