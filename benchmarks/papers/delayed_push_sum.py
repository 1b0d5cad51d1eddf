"""PushSum whose shares arrive late, by the rule of ``osgp``: the rate against the delay, and what the weight is for.

    python benchmarks/papers/delayed_push_sum.py

Eight workers start with 0 ... 7 on ``one_peer_exponential``, and no gradient moves them; shares arrive
``overlap_steps`` rounds after they left. Without delay the mean, 3.5, is exact after 3 rounds. With delay it is no
longer reached in finite time. What is on its way is missing from numerators and weights alike: x is too small, but
z = x / w still tends to the mean. The sum of numerators and shares on their way stays 28.
"""

from __future__ import annotations

import numpy as np
import torch

import sgp_core
from comparison import Comparison, Findings, report
from sgp_core.simulator.trajectory import Trajectory

N = 8
ROUNDS = 240
DELAYS = (0, 1, 2, 4)
MEAN = (N - 1) / 2


def delayed(delay: int, rounds: int = ROUNDS) -> Trajectory:
    """Average with shares that take ``delay`` rounds."""
    algorithm = sgp_core.build_algorithm("osgp", overlap_steps=delay, order="adapt_then_combine")
    topology = sgp_core.build_topology("one_peer_exponential", world_size=N)
    start = torch.arange(N, dtype=torch.float64).unsqueeze(1)
    return sgp_core.simulate(algorithm, topology, start, lambda z, step: torch.zeros_like(z), steps=rounds)


def errors(run: Trajectory) -> list[float]:
    """Return the largest error of any de-biased model after each round."""
    return (run.z - MEAN).abs().amax((1, 2)).tolist()


def by_hand(delay: int, rounds: int = ROUNDS) -> list[float]:
    """Return the errors of x_i(k+1) = x_i(k) / 2 + (share of round k - delay), written as sums over indices."""
    x, w = np.arange(N, dtype=float), np.ones(N)
    sent: list[tuple[np.ndarray, np.ndarray]] = []
    found = [float(np.abs(x / w - MEAN).max())]
    for k in range(rounds):
        sent.append((np.roll(x, 2 ** (k % 3)) / 2, np.roll(w, 2 ** (k % 3)) / 2))
        x, w = x / 2, w / 2
        if k >= delay:
            x, w = x + sent[k - delay][0], w + sent[k - delay][1]
        found.append(float(np.abs(x / w - MEAN).max()))
    return found


def rate(of: list[float]) -> float:
    """Return what is left of the error by a round, over the second half of the rounds before rounding takes over."""
    last = max(t for t, error in enumerate(of) if error > 1e-11)
    first = last - last // 6 * 3  # whole periods
    return float((of[last] / of[first]) ** (1 / (last - first)))


def rate_by_eigenvalues(delay: int) -> float:
    """Return the same by eigenvalues: of a period of rounds, on models and shares on their way, ``[n (delay + 1)]``."""
    size = N * (delay + 1)
    period = np.eye(size)
    for k in range(3):
        one = np.zeros((size, size))
        one[:N, :N] = np.eye(N) / 2  # what is kept
        leaving = np.roll(np.eye(N), 2**k, axis=0) / 2
        one[(N if delay else 0) : (2 * N if delay else N), :N] += leaving
        for slot in range(1, delay + 1):  # a share moves on, and out of the last slot into the model
            to = slot + 1 if slot < delay else 0
            one[to * N : (to + 1) * N, slot * N : (slot + 1) * N] += np.eye(N)
        period = one @ period
    no_mean = np.kron(np.eye(delay + 1), np.eye(N) - 1 / N)  # what all share is in x and w alike, and so not in z
    return float(np.abs(np.linalg.eigvals(period @ no_mean)).max() ** (1 / 3))


def find() -> Findings:
    """Return everything."""
    found = Findings()
    lines = {}
    for delay in DELAYS:
        run = delayed(delay)
        own = errors(run)
        lines[f"z, delay {delay}"] = [(float(t), max(error, 1e-16)) for t, error in enumerate(own[:97])]
        if delay == 0:
            exact = next(t for t, error in enumerate(own) if error < 1e-12)
            found.rows.append(Comparison("delay 0: rounds to the exact mean", exact, theory=3))
            continue
        expected = by_hand(delay)
        for rounds in (24, 48):
            what = f"delay {delay}: largest error after {rounds} rounds"
            found.rows.append(Comparison(what, own[rounds], theory=expected[rounds]))
        found.rows.append(
            Comparison(f"delay {delay}: error left by a round", rate(own), theory=rate_by_eigenvalues(delay))
        )
        total = float((run.x.sum((1, 2)) + run.x_in_flight.squeeze(1) - N * MEAN).abs().max())
        found.rows.append(
            Comparison(f"delay {delay}: sum with shares on their way, off 28 by at most", total, theory=0)
        )
        biased = float((run.x[-1] - MEAN).abs().mean())
        found.rows.append(Comparison(f"delay {delay}: mean error of x, not divided by w", biased))
        lines[f"x, delay {delay}"] = [(float(t), float((x - MEAN).abs().max())) for t, x in enumerate(run.x[:97])]
    found.curves["error"] = lines
    found.notes.append(
        "Theory: the recursion by hand, and, for what a round leaves, the largest eigenvalue of a period."
    )
    return found


if __name__ == "__main__":
    report("delayed_push_sum", __doc__, find)
