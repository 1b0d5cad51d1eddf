"""Averaging among peers that fail ("Moshpit SGD", Ryabinin et al., NeurIPS 2021), and what its SGP column shows.

    python benchmarks/papers/moshpit_averaging.py

Workers start with normal numbers; ``rounds`` are those until the variance between them is below 1e-9, at most 50, mean
of ten starts, of four with the library's rules. In each round every worker fails with probability p: it neither sends
nor receives, and keeps what it has. Published values are the output stored in the authors' notebook.

The SGP column is of a method that is not SGP. As the authors' code has it:

1. The matrix of a hop of k is made by rolling the flattened matrix, so that an entry which leaves a row on the right
   comes back one row lower: k workers have the wrong peer, one has none. It is not doubly stochastic.
2. Rows are divided by their sums and no weight travels: this is averaging without PushSum. Workers agree, but not on
   the mean of what they started with.
3. Every round has two peers, of hops 2^h and 2^(h + 1), so that even without failures it is never exact.

``as printed`` repeats it, and gives the published numbers. ``sgp`` is the library's rule, whose shares for workers that
fail stay with their senders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

import sgp_core
from comparison import Comparison, Findings, report
from sgp_core import Topology
from sgp_core.simulator.trajectory import Trajectory
from sgp_core.topology.base import MatrixTopology

SOURCE = "Moshpit SGD, output of the authors' notebook"
MOST = 50
"""Rounds after which the authors stop."""
STARTS, STARTS_OF_RULES = 10, 4
GROUP = 32
PUBLISHED = {
    (512, 0.0): {"sgp": (47.6, 15.6), "random groups": (6.1, 3.0), "moshpit": (8.2, 3.6), "allreduce": (1.0, 1.0)},
    (512, 0.01): {"sgp": (47.8, 15.6), "random groups": (6.6, 3.0), "moshpit": (8.8, 3.9), "allreduce": (41.7, 41.7)},
    (768, 0.0): {"sgp": (43.2, 13.8), "random groups": (6.2, 3.0), "moshpit": (6.0, 3.0), "allreduce": (1.0, 1.0)},
    (768, 0.01): {"sgp": (43.9, 14.2), "random groups": (7.0, 3.0), "moshpit": (6.9, 3.0), "allreduce": (50.0, 50.0)},
}
"""Rounds to 1e-9 and to 1e-4, by (workers, probability to fail)."""


def alive(n: int, p: float, seed: int, step: int) -> np.ndarray:
    """Return who takes part in a round, ``[n]``."""
    return np.random.default_rng([seed, step]).uniform(size=n) >= p


@dataclass(frozen=True)
class Failing(MatrixTopology):
    """A graph some of whose workers fail; shares for them stay with their senders, so that columns sum to 1."""

    of: Topology | None = None
    p: float = 0.0
    seed: int = 0

    @property
    def period(self) -> int | None:
        """That of the graph, if nobody fails."""
        assert self.of is not None
        return None if self.p else self.of.period

    def mixing_matrix(self, step: int) -> np.ndarray:
        """Return P, ``[n, n]``."""
        assert self.of is not None
        there = alive(self.world_size, self.p, self.seed, step)
        matrix = self.of.mixing_matrix(step) * np.outer(there, there)
        matrix[np.diag_indices(len(matrix))] += 1 - matrix.sum(0)
        return matrix


@dataclass(frozen=True)
class Groups(MatrixTopology):
    """In each round, groups of those alive average exactly: drawn at random, or the rows of a grid along one axis.

    With ``dimensions`` workers sit on random places of a grid of side ``GROUP``, and axes take turns (Moshpit).
    """

    p: float = 0.0
    seed: int = 0
    dimensions: int = 0

    @property
    def period(self) -> None:
        """Groups never repeat."""

    @property
    def is_doubly_stochastic(self) -> bool:
        """Exact averages of groups are."""
        return True

    def mixing_matrix(self, step: int) -> np.ndarray:
        """Return P, ``[n, n]``."""
        n = self.world_size
        there = alive(n, self.p, self.seed, step)
        if self.dimensions:
            places = np.random.default_rng([self.seed, 1 << 20]).permutation(GROUP**self.dimensions)[:n]
            indices = np.unravel_index(places, (GROUP,) * self.dimensions)
            rows = [axis for number, axis in enumerate(indices) if number != step % self.dimensions]
            of = np.ravel_multi_index(rows, (GROUP,) * (self.dimensions - 1))
        else:
            order = np.random.default_rng([self.seed, step, 1]).permutation(np.flatnonzero(there))
            of = np.zeros(n, dtype=int)
            of[order] = np.arange(len(order)) % (len(order) // GROUP)
        together = (of[:, None] == of) & np.outer(there, there) | np.eye(n, dtype=bool)
        return together / together.sum(0)


def start(n: int, seed: int) -> np.ndarray:
    """Return the numbers that workers start with, ``[n]``."""
    return np.random.default_rng(seed).normal(size=n)


def gossip(topology: Topology, seed: int, rounds: int) -> Trajectory:
    """Average by the rule of ``sgp``."""
    first = torch.from_numpy(start(topology.world_size, seed)).unsqueeze(1)
    algorithm = sgp_core.build_algorithm("sgp")
    return sgp_core.simulate(algorithm, topology, first, lambda z, step: torch.zeros_like(z), steps=rounds)


def rounds_of_rule(topology: Callable[[int], Topology], most: int) -> tuple[float, float, float]:
    """Return the mean rounds to 1e-9 and to 1e-4 of the rule of ``sgp``, and how far the last mean is off, squared."""
    found, off = [], []
    for seed in range(STARTS_OF_RULES):
        run = gossip(topology(seed), seed, most)
        found.append(first_below(run.z.squeeze(2).numpy().var(axis=1)))
        off.append(float((run.z[-1].mean() - run.z[0].mean()) ** 2))
    fine, coarse = np.mean(found, axis=0)
    return float(fine), float(coarse), float(np.mean(off))


def as_printed(n: int, p: float) -> tuple[float, float, float]:
    """Return the same of the method of the SGP column, with the authors' random numbers."""
    found, off = [], []
    one, hops = np.eye(n), int(np.floor(np.log2(n - 1)))
    matrices = [one + np.roll(one, 2**h) + np.roll(one, 2 ** (h + 1)) for h in range(hops)]  # roll flattens
    for seed in range(STARTS):
        random = np.random.RandomState(seed)
        x = random.normal(0, 1, n)
        mean, variances = x.mean(), [x.var()]
        for step in range(1, MOST + 1):
            there = random.uniform(0, 1, n) >= p
            matrix = matrices[step % hops] * np.outer(there, there)
            sums = matrix.sum(1)
            x = np.where(there, matrix @ x / np.where(sums, sums, 1), x)
            variances.append(x.var())
        found.append(first_below(np.array(variances)))
        off.append((x.mean() - mean) ** 2)
    fine, coarse = np.mean(found, axis=0)
    return float(fine), float(coarse), float(np.mean(off))


def first_below(variances: np.ndarray) -> tuple[int, int]:
    """Return the rounds to 1e-9 and to 1e-4, at most 50."""
    fine, coarse = (next((t for t, v in enumerate(variances) if v < level), MOST) for level in (1e-9, 1e-4))
    return fine, coarse


def rounds_of_allreduce(n: int, p: float) -> float:
    """Return the mean rounds until nobody fails in one, at most 50: AllReduce averages only then."""
    q = (1 - p) ** n
    return (1 - (1 - q) ** MOST) / q


def compare(n: int, p: float) -> list[Comparison]:
    """Return the rows of one number of workers and one probability to fail."""
    published = PUBLISHED[n, p]
    where = f"n = {n}, p = {p:g}"
    rows = [Comparison(f"{where}: allreduce, expected", rounds_of_allreduce(n, p), published["allreduce"][0], SOURCE)]
    groups = rounds_of_rule(lambda seed: Groups(n, p=p, seed=seed), 12)
    rows.append(Comparison(f"{where}: random groups of 32", groups[0], published["random groups"][0], SOURCE))
    moshpit = rounds_of_rule(lambda seed: Groups(n, p=p, seed=seed, dimensions=2), 16)
    rows.append(Comparison(f"{where}: Moshpit, grid of 32 x 32", moshpit[0], published["moshpit"][0], SOURCE))
    wrong = as_printed(n, p)
    rows.append(Comparison(f"{where}: SGP as printed", wrong[0], published["sgp"][0], SOURCE))
    rows.append(Comparison(f"{where}: SGP as printed, rounds to 1e-4", wrong[1], published["sgp"][1], SOURCE))
    rows.append(Comparison(f"{where}: SGP as printed, squared error of what they agree on", wrong[2], theory=0))
    return [*rows, *corrected(n, p)]


def corrected(n: int, p: float) -> list[Comparison]:
    """Return what SGP needs."""
    where, published = f"n = {n}, p = {p:g}", PUBLISHED[n, p]["sgp"]
    rows = []
    for name in ("one_peer_exponential", "base_k"):
        of = sgp_core.build_topology(name, world_size=n)
        own = rounds_of_rule(lambda seed, of=of: Failing(n, of=of, p=p, seed=seed), MOST)  # type: ignore[misc]
        rows.append(Comparison(f"{where}: sgp, {name}", own[0], published[0], SOURCE))
        rows.append(Comparison(f"{where}: sgp, {name}, rounds to 1e-4", own[1], published[1], SOURCE))
        if name == "one_peer_exponential":
            rows.append(Comparison(f"{where}: sgp, squared error of what they agree on", own[2], theory=0))
    return rows


def find() -> Findings:
    """Return everything."""
    return Findings(rows=[row for n, p in PUBLISHED for row in compare(n, p)], curves=curves())


def curves() -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return the variance over rounds at n = 512."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    n = 512
    for p in (0.0, 0.01):
        graph = sgp_core.build_topology("one_peer_exponential", world_size=n)
        kinds: dict[str, Topology] = {
            "sgp, one peer": Failing(n, of=graph, p=p),
            "random groups": Groups(n, p=p),
            "Moshpit": Groups(n, p=p, dimensions=2),
            "ring": Failing(n, of=sgp_core.build_topology("ring", world_size=n), p=p),
        }
        panels[f"n = 512, p = {p:g}"] = {name: variance_curve(topology) for name, topology in kinds.items()}
    return panels


def variance_curve(topology: Topology, rounds: int = 30) -> list[tuple[float, float]]:
    """Return the variance over rounds, down to 1e-16."""
    run = gossip(topology, 0, rounds)
    variances = run.z.squeeze(2).numpy().var(axis=1)
    last = next((t for t, v in enumerate(variances) if v < 1e-16), rounds)
    return [(float(t), max(float(v), 1e-16)) for t, v in enumerate(variances[: last + 1])]


if __name__ == "__main__":
    report("moshpit_averaging", __doc__, find)
