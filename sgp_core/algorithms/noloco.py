"""NoLoCo: DiLoCo without an AllReduce; workers meet in random pairs.

Kolehmainen, Blagoev, Donaghy, Ersoy et al., "NoLoCo: No-all-reduce Low Communication Training Method for Large Models",
2025, arXiv 2506.10911.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sgp_core.algorithms.base import OUTERS, Outer
from sgp_core.algorithms.worker import Worker
from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology
from sgp_core.topology.matching import RandomMatching


@OUTERS.register("noloco")
@dataclass(frozen=True)
class NoLoCo(Outer):
    """Every ``tau`` base steps a worker and a random partner share how far they came, and draw together::

        m_i <- momentum m_i + lr mean_pair(theta - phi) + gamma (mean_pair(phi) - phi_i)        phi_i <- phi_i + m_i

    ``phi_i`` is where worker i's block started, ``theta_i`` where it ended; each has a ``phi`` of its own, and the next
    block starts there. The pairs are a permutation that all draw alike from ``seed`` and the number of the block; with
    an odd number of workers one is its own pair. One vector travels: ``lr (theta - phi) + gamma phi``.

    The mean of all workers moves as that of SGD with heavy-ball momentum would, fed with the mean displacement. Their
    spread does not vanish while their data differ, so take the averaged model in the end. ``gamma`` must be below
    ``2 (1 - momentum^2)``: from there on differences grow by themselves in the mean square, among many workers. The
    inner optimizer's state is each worker's own and is kept.
    """

    tau: int = 50
    lr: float = 0.7
    momentum: float = 0.5
    gamma: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.momentum < 1.0:
            raise ConfigurationError(f"outer 'noloco': momentum must lie in [0, 1), not {self.momentum}")
        if self.lr <= 0.0:
            raise ConfigurationError(f"outer 'noloco': lr must be positive, not {self.lr}")
        most = 2.0 * (1.0 - self.momentum**2)
        if not 0.0 < self.gamma < most:
            raise ConfigurationError(
                f"outer 'noloco': gamma must lie in (0, {most:g}), or workers drift apart at momentum={self.momentum},"
                f" not be {self.gamma}"
            )

    def check(self, topology: Topology) -> None:
        super().check(topology)
        if self.base.leaves_one(topology):
            raise ConfigurationError(
                "outer 'noloco' averages models in pairs, without PushSum weights, which leave 1 here; use a doubly"
                " stochastic topology and no messages in flight, or outer 'diloco'"
            )

    def outer_step(self, worker: Worker) -> None:
        x, phi, m = worker.params, worker.memory("anchor"), worker.memory("outer_momentum")
        x.mul_(self.lr).add_(phi, self.gamma - self.lr)
        pairs = _pairs(worker.network.topology.world_size, self.seed)
        worker.network.mix_along(x, pairs, worker.step // self.tau)
        m.mul_(self.momentum).add_(x).add_(phi, -self.gamma)
        x.copy_(phi).add_(m)


@lru_cache(maxsize=8)
def _pairs(world_size: int, seed: int) -> RandomMatching:
    return RandomMatching(world_size, seed=seed)
