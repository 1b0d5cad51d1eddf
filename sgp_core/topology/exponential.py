"""Exponential graphs: peers at powers, all at once or one power a step (Ying et al., 2021, arXiv 2110.13363)."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.topology.base import TOPOLOGIES, Topology


@TOPOLOGIES.register("exponential")
@dataclass(frozen=True)
class Exponential(Topology):
    """Static: every rank sends to r + 1, r + 2, r + 4, ...; spectral gap 2 / (1 + ceil(log2 n)) for even n."""

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        n = self.world_size
        return [(rank + (1 << level)) % n for level in range((n - 1).bit_length())]

    @property
    def is_doubly_stochastic(self) -> bool:
        return True


@TOPOLOGIES.register("one_peer_exponential")
@dataclass(frozen=True)
class OnePeerExponential(Topology):
    """One power a step: with k = ``peers``, rank r sends to r + j (k+1)^(t mod period), j = 1..k (mod n).

    Exact in one period when n is a power of k + 1: every node of the k-nomial tree is reached exactly once. At other
    sizes a hop that leads home or to a peer already listed is left out, and one period contracts without being exact.
    """

    peers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("peers", at_least=1)

    @property
    def period(self) -> int:
        """The powers of ``peers + 1`` below ``world_size``, at least 1; counted in integers, a float log misses one."""
        length, reach = 0, 1
        while reach < self.world_size:
            length, reach = length + 1, reach * (self.peers + 1)
        return max(length, 1)

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        n = self.world_size
        power = (self.peers + 1) ** (step % self.period)
        hops = dict.fromkeys(j * power % n for j in range(1, self.peers + 1))
        return [(rank + hop) % n for hop in hops if hop]

    @property
    def is_doubly_stochastic(self) -> bool:
        return True
