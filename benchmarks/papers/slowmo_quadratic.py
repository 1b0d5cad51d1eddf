"""SlowMo (Wang, Tantia, Ballas, Rabbat, ICLR 2020) on x^2 / 2, against its recursion in closed form.

    python benchmarks/papers/slowmo_quadratic.py

tau steps of rate g leave r = (1 - g)^tau of x. The outer step then gives, from block to block,
x(t+1) = (1 + beta - alpha (1 - r)) x(t) - beta x(t-1), whose roots have modulus sqrt(beta) where they are complex. With
alpha = 1 the best momentum is beta* = (1 - sqrt(1 - r))^2, and leaves 1 - sqrt(1 - r) a block where none leaves r: it
helps much only where a block makes little progress. The paper has no experiment on a quadratic.
"""

from __future__ import annotations

import math

import numpy as np
import torch

import sgp_core
from comparison import Comparison, Findings, report

BLOCKS = 40
SETTINGS = ((0.01, 12), (0.01, 48), (0.1, 12))
"""Rate and tau: little, more and much progress in a block."""


def blocks(g: float, tau: int, beta: float, count: int = BLOCKS) -> list[float]:
    """Return x at the ends of blocks, start included, by the rule of SlowMo over local SGD."""
    base = sgp_core.build_algorithm("local_sgd", period=0)
    run = sgp_core.simulate(
        sgp_core.build_outer("slowmo", base, tau=tau, beta=beta),
        sgp_core.build_topology("complete", world_size=1),
        torch.ones(1, 1, dtype=torch.float64),
        lambda z, step: z,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=g),
        steps=count * tau,
        record_every=tau,
    )
    return run.z.flatten().tolist()


def recursion(r: float, beta: float, count: int = BLOCKS) -> list[float]:
    """Return the same by the recursion with alpha = 1."""
    x = [1.0, r]
    while len(x) <= count:
        x.append((beta + r) * x[-1] - beta * x[-2])
    return x


def best(r: float) -> float:
    """Return the best momentum."""
    return (1 - math.sqrt(1 - r)) ** 2


def modulus(r: float, beta: float) -> float:
    """Return the larger modulus of the roots of s^2 - (beta + r) s + beta."""
    inside = (beta + r) ** 2 - 4 * beta
    return math.sqrt(beta) if inside < 0 else (beta + r + math.sqrt(inside)) / 2


def left_a_block(x: list[float]) -> float:
    """Return the larger modulus of the roots of x(t+1) = p x(t) - q x(t-1), which four blocks in a row obey."""
    p, q = np.linalg.solve([[x[2], -x[1]], [x[3], -x[2]]], [x[3], x[4]])
    return float(max(abs(np.roots([1.0, -p, q]))))


def find() -> Findings:
    """Return everything."""
    found = Findings()
    for g, tau in SETTINGS:
        r = (1 - g) ** tau
        lines = {}
        for label, beta in (("no momentum", 0.0), ("beta*", best(r)), ("beta = 0.6", 0.6)):
            own, expected = blocks(g, tau, beta), recursion(r, beta)
            what = f"g = {g}, tau = {tau} (r = {r:.4f}), {label}: x after 4 blocks"
            found.rows.append(Comparison(what, own[4], theory=expected[4]))
            lines[label] = [(float(t), max(abs(x), 1e-16)) for t, x in enumerate(own)]
        found.curves[f"r = {r:.2f}"] = lines
        for label, beta in (("beta*", best(r)), ("beta = 0.6", 0.6)):
            what = f"g = {g}, tau = {tau} (r = {r:.4f}), {label}: left of x by a block"
            found.rows.append(Comparison(what, left_a_block(blocks(g, tau, beta)), theory=modulus(r, beta)))
    return found


if __name__ == "__main__":
    report("slowmo_quadratic", __doc__, find)
