"""PushSum to targets drawn at random (Kempe, Dobra, Gehrke, FOCS 2003): rounds to a precision, by the rule of ``sgp``.

    python benchmarks/papers/random_targets.py

In every round each worker sends half of its numerator and weight to a worker drawn from all, itself included. The paper
proves O(log n + log 1/eps + log 1/delta) rounds and names no constants; its potential, the sum over workers of
|v_i - w_i/n|^2 with v_i the shares of all starting values in x_i, shrinks by 1/2 - 1/(4n) a round in expectation.
``rounds`` are those to a largest relative error of eps, with starting values uniform in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import sgp_core
from comparison import Comparison, Findings, report
from sgp_core import Topology
from sgp_core.simulator.trajectory import Trajectory

PRECISIONS = (1e-2, 1e-3, 1e-6)
SIZES = (16, 64, 256, 1024)
SEEDS = 20
MOST = 70
"""Rounds of a run."""


@dataclass(frozen=True)
class RandomTargets(Topology):
    """Each worker keeps half and sends half to a worker drawn anew at every step; if that is itself it keeps all."""

    seed: int = 0

    @property
    def period(self) -> None:
        """Graphs never repeat."""

    @property
    def is_doubly_stochastic(self) -> bool:
        """Several workers may send to one, so weights differ from 1."""
        return self.world_size == 1

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        """Return the target, or nothing."""
        target = int(np.random.default_rng([self.seed, step]).integers(self.world_size, size=self.world_size)[rank])
        return [] if target == rank else [target]

    def mixing_matrix(self, step: int) -> np.ndarray:
        """Return P, ``[n, n]``, drawing once for all workers."""
        n = self.world_size
        targets = np.random.default_rng([self.seed, step]).integers(n, size=n)
        matrix = np.eye(n) / 2
        matrix[targets, np.arange(n)] += 0.5
        return matrix


def gossip(start: Tensor, rounds: int, seed: int) -> Trajectory:
    """Run PushSum on random targets from the rows of ``start``."""
    topology = RandomTargets(len(start), seed=seed)
    algorithm = sgp_core.build_algorithm("sgp")
    return sgp_core.simulate(algorithm, topology, start, lambda z, step: torch.zeros_like(z), steps=rounds)


def errors(n: int, seed: int, rounds: int = MOST) -> list[float]:
    """Return the largest relative error of any worker after 0 ... ``rounds`` rounds."""
    start = torch.rand(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mean = start.mean()
    return ((gossip(start, rounds, seed).z - mean).abs().amax(1) / mean).flatten().tolist()


def contraction(n: int, seeds: int, rounds: int = 10) -> float:
    """Return by what the potential shrinks a round: the geometric mean over rounds of its mean over seeds."""
    ends = []
    for seed in range(seeds):
        run = gossip(torch.eye(n, dtype=torch.float64), rounds, seed)
        ends.append(float((run.x[-1] - run.w[-1].unsqueeze(1) / n).square().sum()))
    return float((np.mean(ends) / (n - 1)) ** (1 / rounds))


def rounds_to(precision: float, of: list[float]) -> int:
    """Return the first round after which every error is at most ``precision``."""
    return next(t for t, error in enumerate(of) if error <= precision)


def slopes(rounds: dict[tuple[int, float], float]) -> tuple[float, float, float]:
    """Fit rounds = a log2 n + b log2 1/eps + c; return a, b, c."""
    design = [[np.log2(n), -np.log2(precision), 1.0] for n, precision in rounds]
    a, b, c = np.linalg.lstsq(np.array(design), np.array(list(rounds.values())), rcond=None)[0]
    return float(a), float(b), float(c)


def find(sizes: tuple[int, ...] = SIZES, seeds: int = SEEDS) -> Findings:
    """Return everything."""
    found = Findings()
    for n in sizes[:3]:
        own = contraction(n, seeds)
        found.rows.append(Comparison(f"n = {n}: potential left by a round", own, theory=0.5 - 1 / (4 * n)))
    rounds, lines = {}, {}
    for n in sizes:
        runs = [errors(n, seed) for seed in range(seeds)]
        for precision in PRECISIONS:
            rounds[n, precision] = float(np.mean([rounds_to(precision, run) for run in runs]))
        lines[f"n = {n}"] = [(float(t), max(float(e), 1e-16)) for t, e in enumerate(np.exp(np.mean(np.log(runs), 0)))]
    a, b, c = slopes(rounds)
    for (n, precision), own in rounds.items():
        fit = a * float(np.log2(n)) - b * float(np.log2(precision)) + c
        found.rows.append(Comparison(f"n = {n}: rounds to {precision:.0e}", own, theory=fit))
    found.curves["error"] = lines
    found.notes.append(
        f"The theory of the rounds is the fit {a:.2f} log2 n + {b:.2f} log2 1/eps {c:+.2f}: logarithmic in both, as the"
        " paper proves. No published number: it names no constants."
    )
    return found


if __name__ == "__main__":
    report("random_targets", __doc__, find)
