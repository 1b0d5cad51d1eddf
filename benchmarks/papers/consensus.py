"""Rounds to consensus per topology, run by the rule of ``sgp`` without gradients.

    python benchmarks/papers/consensus.py

Worker i starts with the i-th unit vector, so after t rounds the models are the rows of Pi(t) = P(t-1) ... P(0), and
``distance`` is ||Pi(t) - J||_2, the most that t rounds can leave of any disagreement. For a fixed symmetric P it is
rho^t, rho the second largest eigenvalue in modulus.
"""

from __future__ import annotations

import math
from itertools import count

import torch

import sgp_core
from comparison import Comparison, Findings, report
from sgp_core import Topology
from sgp_core.topology.analysis import distance_to_mean

YING = "Ying et al. 2021, one-peer exponential graph"
TAKEZAWA = "Takezawa et al. 2023, run of the authors' construction; not printed in the paper"
BASE_K = {3: 3, 5: 5, 6: 4, 7: 5, 9: 7, 10: 6, 12: 5, 15: 7, 17: 9}
"""Lengths of the schedule of the authors' own construction for k = 1, by n."""
LONGEST = 400
"""Rounds of a curve."""


def distances(topology: Topology, rounds: int) -> list[float]:
    """Return ||Pi(t) - J||_2 for t = 0 ... rounds, from the models of ``sgp``."""
    start = torch.eye(topology.world_size, dtype=torch.float64)
    algorithm = sgp_core.build_algorithm("sgp")
    run = sgp_core.simulate(algorithm, topology, start, lambda z, step: torch.zeros_like(z), steps=rounds)
    return [distance_to_mean(z.numpy()) for z in run.z]


def rounds_to(precision: float, of: list[float]) -> int | None:
    """Return the first round with a distance of at most ``precision``."""
    return next((t for t, distance in enumerate(of) if distance <= precision), None)


def eigenvalue(name: str, n: int) -> float:
    """Return rho in closed form."""
    if name == "ring":
        return 1 - 2 / 3 * (1 - math.cos(2 * math.pi / n))
    if name == "star":
        return 1 - 1 / n
    if name == "hypercube":
        return 1 - 2 / (math.log2(n) + 1)
    assert name == "exponential", name
    return 1 - 2 / (1 + math.ceil(math.log2(n)))


def expected_rounds(rho: float, precision: float) -> int:
    """Return the first t with rho^t <= ``precision``."""
    return next(t for t in count() if rho**t <= precision)


def fixed_graphs(n: int, precisions: tuple[float, ...] = (1e-2, 1e-4)) -> list[Comparison]:
    """Return rounds on graphs that stay: ring, star, hypercube, static exponential."""
    rows = []
    for name in ("ring", "star", "hypercube", "exponential"):
        rho = eigenvalue(name, n)
        expected = [expected_rounds(rho, precision) for precision in precisions]
        found = distances(sgp_core.build_topology(name, world_size=n), max(expected) + 1)
        for precision, rounds in zip(precisions, expected, strict=True):
            own = rounds_to(precision, found)
            assert own is not None
            rows.append(Comparison(f"{name}, n = {n}: rounds to {precision:.0e}", own, theory=rounds))
    return rows


def exact_graphs() -> list[Comparison]:
    """Return rounds to the exact mean, and what is left where it is not reached."""
    rows = []
    for n in (8, 16, 64, 256):
        found = distances(sgp_core.build_topology("one_peer_exponential", world_size=n), int(math.log2(n)))
        own = rounds_to(1e-12, found)
        rows.append(
            Comparison(f"one_peer_exponential, n = {n}: rounds to the exact mean", own or -1, math.log2(n), YING)
        )
    for n in (7, 15, 31, 63):
        period = math.ceil(math.log2(n))
        left = distances(sgp_core.build_topology("one_peer_exponential", world_size=n), period)[-1]
        rows.append(Comparison(f"one_peer_exponential, n = {n}: left after a period", left, theory=1 / (n + 1)))
    left = distances(sgp_core.build_topology("one_peer_exponential", world_size=12), 4)[-1]
    rows.append(Comparison("one_peer_exponential, n = 12: left after a period", left))
    for n, published in BASE_K.items():
        found = distances(sgp_core.build_topology("base_k", world_size=n, peers=1), published)
        own = rounds_to(1e-12, found)
        what = f"base_k, peers = 1, n = {n}: rounds to the exact mean"
        rows.append(Comparison(what, own or -1, published, TAKEZAWA, 2 * math.log2(n) + 2, is_bound=True))
    return rows


def curves(n: int, names: dict[str, dict[str, int]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return distance over rounds, down to rounding."""
    lines = {}
    for name, options in names.items():
        found = distances(sgp_core.build_topology(name, world_size=n, **options), rounds)
        last = rounds_to(1e-12, found)
        lines[name] = [(float(t), max(distance, 1e-16)) for t, distance in enumerate(found[: (last or rounds) + 1])]
    return lines


def find() -> Findings:
    """Return everything."""
    names: dict[str, dict[str, int]] = {
        "ring": {},
        "torus": {},
        "exponential": {},
        "one_peer_exponential": {},
        "base_k": {"peers": 1},
    }
    return Findings(
        rows=[*fixed_graphs(16), *fixed_graphs(32), *exact_graphs()],
        curves={f"n = {n}": curves(n, names, 40) for n in (16, 12)},
    )


if __name__ == "__main__":
    report("consensus", __doc__, find)
