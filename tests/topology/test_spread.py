"""How far apart workers stay: closed forms, and a sample of the random walk itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sgp_core.topology import build_topology
from sgp_core.topology.spread import spread


def cycle(name: str, n: int) -> list[np.ndarray]:
    topology = build_topology(name, n)
    return [topology.mixing_matrix(step) for step in range(topology.period or 64)]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_an_exact_average_after_every_step_leaves_nothing(n: int) -> None:
    assert spread([np.full((n, n), 1 / n)]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "period"), [(4, 2), (8, 12), (5, 7)])
def test_local_sgd_is_a_random_walk_from_average_to_average(n: int, period: int) -> None:
    matrices = [np.eye(n)] * (period - 1) + [np.full((n, n), 1 / n)]
    assert spread(matrices) == pytest.approx(math.sqrt((period - 1) / 2 * (1 - 1 / n)))


def test_workers_that_never_meet_drift_for_ever() -> None:
    assert spread([np.eye(4)]) == math.inf


@pytest.mark.parametrize("n", [4, 8, 32])
def test_one_peer_exponential_halves_the_noise_of_an_update_in_each_step(n: int) -> None:
    expected = sum(2.0**-k - 1 / n for k in range(1, int(math.log2(n))))
    assert spread(cycle("one_peer_exponential", n)) == pytest.approx(math.sqrt(expected))
    ahead = spread(cycle("one_peer_exponential", n), mixes_before_update=True)
    assert ahead == pytest.approx(math.sqrt(expected + 1 - 1 / n))


@pytest.mark.parametrize("name", ["ring", "hypercube", "exponential"])
def test_fixed_graphs_filter_noise_by_their_eigenvalues(name: str) -> None:
    [matrix] = cycle(name, 8)
    squares = np.sort(np.abs(np.linalg.eigvals(matrix)))[:-1] ** 2
    assert spread([matrix]) == pytest.approx(math.sqrt(np.sum(squares / (1 - squares)) / 8))


@pytest.mark.parametrize(("name", "n"), [("alternating_exponential", 6), ("star", 5), ("directed_ring", 5)])
@pytest.mark.parametrize("ahead", [False, True])
def test_it_is_what_the_random_walk_does(name: str, n: int, ahead: bool) -> None:
    """PushSum numerators and weights, many walks at once."""
    matrices, rng = cycle(name, n), np.random.default_rng(0)
    x, w, found = np.zeros((n, 20_000)), np.ones(n), []
    for step in range(40 * len(matrices)):
        noise, matrix = rng.standard_normal(x.shape), matrices[step % len(matrices)]
        x = matrix @ x + noise if ahead else matrix @ (x + noise)
        w = matrix @ w
        if step >= 20 * len(matrices):
            z = x / w[:, None]
            found.append(np.mean((z - z.mean(axis=0)) ** 2))
    assert spread(matrices, mixes_before_update=ahead) == pytest.approx(math.sqrt(np.mean(found)), rel=0.01)
