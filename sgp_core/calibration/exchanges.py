"""How long exchanges of some size take among the workers: gossip to a peer inside a host or on another, and AllReduce.

What is timed is what a run does: steps of :class:`sgp_core.Gossip` over the transport that the run would use, with a
model that is one vector. What such a step takes without any exchange, the update, is taken off.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

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
_LEAST_S = 1e-7
_SIZES, _SERIES = 4, 3
"""How many sizes are tried, and series of steps at each: with the exchange, without, and the update alone."""


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


def measure_exchanges(
    peers: Peers, device: torch.device, places: Places, transport: str, budget_s: float = 24.0
) -> dict[str, Timings]:
    """Return timings of ``inside`` a host, ``across`` hosts, and ``all_reduce``, of those that there can be.

    And of ``update``: what the optimizer's step takes on a vector of that size while all workers take theirs.
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
    updates: dict[int, list[float]] = {}
    one_s = budget_s / max(1, len(kinds)) / _SIZES / _SERIES
    for kind, (algorithm, topology) in kinds.items():
        size = SMALL
        while size <= LARGE:
            seconds, update = _exchange(peers, device, algorithm, topology, transport, size, one_s)
            found[kind].append((size, seconds))
            updates.setdefault(size, []).append(update)
            if seconds > _SHORT_S:
                break
            size *= _GROWTH
    return {**found, "update": [(size, min(taken)) for size, taken in updates.items()]}


def measure_lone_pair(peers: Peers, device: torch.device, size: int) -> float:
    """Return the seconds in which ranks 0 and 1 exchange ``size`` bytes while all others are idle. Collective."""
    mine, inbox = (torch.zeros(size // 4, device=device) for _ in range(2))

    def exchange() -> None:
        if peers.rank < 2:
            for work in begin_exchange(mine, 1 - peers.rank, inbox, 1 - peers.rank):
                work.wait()

    return _repeat(peers, [exchange], 1.0)[0]


def begin_exchange(mine: Tensor, to: int, inbox: Tensor, of: int) -> list[dist.Work]:
    """Begin to send ``mine`` to one rank and to receive ``inbox`` of another; NCCL hangs if they are not one batch."""
    both = [dist.P2POp(dist.irecv, inbox, of), dist.P2POp(dist.isend, mine, to)]
    return dist.batch_isend_irecv(both)


def _exchange(
    peers: Peers,
    device: torch.device,
    algorithm: Algorithm,
    topology: Topology,
    transport: str,
    size: int,
    budget_s: float,
) -> tuple[float, float]:
    """Return the seconds that an exchange adds to a step of a model of ``size`` bytes, and those of the update."""
    exchanging, alone = _Vector(algorithm, topology, transport, size, device), _Vector(None, topology, "", size, device)
    whole, without, update = _repeat(peers, [exchanging.step, alone.step, alone.optimizer.step], budget_s)
    exchanging.close()
    return max(whole - without, _LEAST_S), max(update, _LEAST_S)


class _Vector:
    """A model that is one vector, and what trains it: with a backward, in which some rules communicate."""

    def __init__(
        self, algorithm: Algorithm | None, topology: Topology, transport: str, size: int, device: torch.device
    ) -> None:
        self._parameter = nn.Parameter(torch.zeros(size // 4, device=device))
        model = nn.ParameterList([self._parameter])
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        self._gossip = None
        if algorithm is not None:
            self._gossip = Gossip(model, self.optimizer, algorithm=algorithm, topology=topology, transport=transport)

    def step(self) -> None:
        """Take a step."""
        self.optimizer.zero_grad()
        self._parameter.sum().backward()
        self.optimizer.step()

    def close(self) -> None:
        """Complete messages in flight, and remove the hooks."""
        if self._gossip is not None:
            self._gossip.finish()
            self._gossip.close()


def _repeat(peers: Peers, steps: Sequence[Callable[[], object]], budget_s: float) -> list[float]:
    """Return the seconds of each of ``steps``, which all workers take together: medians of series that take turns."""
    counts = []
    for step in steps:
        for _ in range(_WARM_UP):
            step()
        once = _slowest(peers, _time(peers, step, 1))
        counts.append(max(1, min(20, int(budget_s / _REPEATS / max(once, 1e-6)))))
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(_REPEATS):
        for series, step, count in zip(taken, steps, counts, strict=True):
            series.append(_slowest(peers, _time(peers, step, count)))
    return [statistics.median(series) for series in taken]


def _time(peers: Peers, step: Callable[[], object], count: int) -> float:
    peers.sum([0.0])  # all begin together
    began = time.perf_counter()
    for _ in range(count):
        step()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # what was launched ends inside this time
    return (time.perf_counter() - began) / count


def _slowest(peers: Peers, seconds: float) -> float:
    return max(peers.gather(seconds))
