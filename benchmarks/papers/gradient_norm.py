"""The rate of the gradient norm on a function that is not convex: SGP's against SGD's.

    python benchmarks/papers/gradient_norm.py

SGP's theorem (Assran et al., ICML 2019) gives a mean square of the gradient at the average model of O(1 / sqrt(nK))
after K steps of n workers at a rate of about sqrt(n / K): that of SGD after n K steps. f(x) = sum_j x_j^2 / (1 + x_j^2)
in 32 dimensions, gradients with noise of variance 1, rate 0.3 sqrt(n / K), workers with shifted gradients of their own
(heterogeneous data). ``slope`` is that of log(mean square) over log(n K): -1/2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

import sgp_core
from comparison import Comparison, Findings, report

D, START, SCALE, SHIFT = 32, 1.5, 0.3, 0.5


def gradient(x: Tensor) -> Tensor:
    """Return that of f, of the shape of ``x``."""
    return 2 * x / (1 + x.square()).square()


def mean_square(n: int, steps: int, algorithm: str = "sgp", seeds: int = 4) -> float:
    """Return the square of the gradient at the average model, mean over steps and seeds."""
    lr = SCALE * (n / steps) ** 0.5
    graph = sgp_core.build_topology("one_peer_exponential", world_size=n)
    found = []
    for seed in range(seeds):
        noise = torch.Generator().manual_seed(seed)
        shift = SHIFT * torch.randn(n, D, dtype=torch.float64, generator=noise)
        shift -= shift.mean(0)
        run = sgp_core.simulate(
            sgp_core.build_algorithm(algorithm),
            graph,
            torch.full((n, D), START, dtype=torch.float64),
            lambda z, step, s=shift, g=noise: gradient(z) + s + torch.randn(n, D, dtype=torch.float64, generator=g),  # type: ignore[misc]
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr),
            steps=steps,
        )
        found.append(float(gradient(run.mean[:-1]).square().sum(1).mean()))
    return float(np.mean(found))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return that of the logarithms."""
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def find(
    sizes: Sequence[int] = (1, 4, 16, 64), totals: Sequence[int] = (4096, 16384, 65536), seeds: int = 2
) -> Findings:
    """Return everything."""
    found = Findings()
    lines: dict[str, list[tuple[float, float]]] = {}
    for n in sizes:
        name = "SGD, 1 worker" if n == 1 else f"sgp, n = {n}"
        lines[name] = [(float(total), mean_square(n, total // n, seeds=seeds)) for total in totals]
        found.rows.append(Comparison(f"{name}: slope over n K", slope(lines[name]), theory=-0.5))
    alone = lines["SGD, 1 worker"]
    for n in sizes[1:]:
        for (total, own), (_, sgd) in zip(lines[f"sgp, n = {n}"], alone, strict=True):
            what = f"n = {n}, n K = {total:.0f}: mean square over that of SGD after n K steps"
            found.rows.append(Comparison(what, own / sgd, theory=1))
    found.curves["mean square of the gradient"] = lines
    return found


if __name__ == "__main__":
    report("gradient_norm", __doc__, find)
