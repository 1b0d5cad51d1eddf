"""Gossip as a graph filter: plain rounds against Chebyshev's polynomial, by the rule of ``sgp`` with ``pace=rounds``.

    python benchmarks/papers/graph_filter.py

k plain rounds leave lambda^k of the component with eigenvalue lambda. The best polynomial of degree k leaves at most
1 / T_k(1 / rho) of any (Montijano, Montijano, Sagues, arXiv 1111.4825; Arioli and Scott 2014), with the same messages.
``rounds`` are those until ||p(P) - J||_2 is at most the precision: models start as unit vectors, so they are p(P).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

import sgp_core
from comparison import Comparison, Findings, report
from sgp_core import Topology
from sgp_core.topology.analysis import distance_to_mean

GRAPHS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "ring of 16": ("ring", 16, {}),
    "ring of 32": ("ring", 32, {}),
    "torus of 8 x 8": ("torus", 64, {"rows": 8}),
}


def left(topology: Topology, rounds: int, kind: str) -> float:
    """Return ||p(P) - J||_2 after so many rounds in a row."""
    start = torch.eye(topology.world_size, dtype=torch.float64)
    pace = sgp_core.build_pace("rounds", rounds=rounds, filter=kind)
    algorithm = sgp_core.build_algorithm("sgp")
    run = sgp_core.simulate(algorithm, topology, start, lambda z, step: torch.zeros_like(z), steps=1, pace=pace)
    return distance_to_mean(run.z[-1].numpy())


def second_eigenvalue(topology: Topology) -> float:
    """Return rho."""
    return float(np.sort(np.abs(np.linalg.eigvalsh(topology.mixing_matrix(0))))[-2])


def expected(rho: float, rounds: int, kind: str) -> float:
    """Return what is left in closed form."""
    return rho**rounds if kind == "plain" else 1 / math.cosh(rounds * math.acosh(1 / rho))


def rounds_to(topology: Topology, precision: float, kind: str) -> int:
    """Return the least number of rounds in a row that leave at most ``precision``, by halving."""
    few, many = 0, 1
    while left(topology, many, kind) > precision:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if left(topology, middle, kind) > precision else (few, middle)
    return many


def find() -> Findings:
    """Return everything."""
    found = Findings()
    for name, (kind_of_graph, n, options) in GRAPHS.items():
        topology = sgp_core.build_topology(kind_of_graph, world_size=n, **options)
        rho, lines = second_eigenvalue(topology), {}
        for kind in ("plain", "chebyshev"):
            for precision in (1e-2, 1e-4):
                theory = next(k for k in range(1, 10_000) if expected(rho, k, kind) <= precision)
                what = f"{name}, {kind}: rounds to {precision:.0e}"
                found.rows.append(Comparison(what, rounds_to(topology, precision, kind), theory=theory))
            own = left(topology, 10, kind)
            found.rows.append(Comparison(f"{name}, {kind}: left after 10 rounds", own, theory=expected(rho, 10, kind)))
            lines[kind] = [(float(k), left(topology, k, kind)) for k in range(1, 61, 3)]
            lines[f"theory: {kind}"] = [(float(k), expected(rho, k, kind)) for k in range(1, 61)]
        found.curves[name] = lines
    return found


if __name__ == "__main__":
    report("graph_filter", __doc__, find)
