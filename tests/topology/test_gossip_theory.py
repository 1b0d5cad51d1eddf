"""Gossip on plain numbers, numpy only: exact invariants of averaging and of PushSum on these topologies."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from sgp_core.topology import Topology, build_topology
from tests.support.published import CONSENSUS_RMS


def consensus_rms(topology: Topology, h: float) -> list[float]:
    """Return the spread, phase by phase, where x <- P((1-h) x + h b), b = 0..n-1, settles: f_i(x) = (x - b_i)^2 / 2."""
    b = np.arange(topology.world_size, dtype=float)
    x, steps = np.zeros_like(b), topology.period or 1
    matrices = [topology.mixing_matrix(step) for step in range(steps)]
    spread = []
    for step in range(4000 * steps):
        x = matrices[step % steps] @ ((1 - h) * x + h * b)
        if step >= 3999 * steps:
            spread.append(float(np.sqrt(np.mean((x - x.mean()) ** 2))))
    assert x.mean() == pytest.approx(b.mean(), abs=1e-9)
    return spread


@pytest.mark.parametrize(("name", "expected"), CONSENSUS_RMS)
def test_consensus_distance_of_gossip_descent(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(consensus_rms(build_topology(name, 16), 0.1), expected, rtol=0, atol=5.1e-7)


@pytest.mark.parametrize(
    ("name", "values"),
    [("one_peer_exponential", (1.324351, 0.307344, 0.031883)), ("ring", (3.550726, 2.428454, 0.576119))],
)
def test_consensus_distance_falls_with_the_learning_rate(name: str, values: tuple[float, ...]) -> None:
    found = [consensus_rms(build_topology(name, 16), h)[-1] for h in (0.5, 0.1, 0.01)]
    np.testing.assert_allclose(found, values, rtol=0, atol=5.1e-7)


def test_fixed_point_of_gossip_descent_in_closed_form() -> None:
    h, b = 0.1, np.arange(16.0)
    matrix = build_topology("hypercube", 16).mixing_matrix(0)
    x = h * np.linalg.solve(np.eye(16) - (1 - h) * matrix, matrix @ b)
    assert np.sqrt(np.mean((x - x.mean()) ** 2)) == pytest.approx(0.601275, abs=5.1e-7)


def test_pushsum_removes_the_bias_of_three_workers() -> None:
    """Out-edges 0 -> {1, 2}, 1 -> {2}, 2 -> {0}: the numerators are pulled apart, the ratios agree on the mean."""
    topology = build_topology(nx.DiGraph([(0, 1), (0, 2), (1, 2), (2, 0)]))
    matrix = topology.mixing_matrix(0)
    x, w = np.array([0.0, 3.0, 6.0]), np.ones(3)
    errors = {}
    for step in range(1, 201):
        x, w = matrix @ x, matrix @ w
        errors[step] = np.abs(x / w - 3).max()
    np.testing.assert_allclose(x, [3, 2, 4], atol=1e-12)
    np.testing.assert_allclose(w, [1, 2 / 3, 4 / 3], atol=1e-12)
    np.testing.assert_allclose([errors[5], errors[10], errors[20]], [1.27e-2, 9.8e-6, 3.5e-11], rtol=0.01)
    assert sorted(np.abs(np.linalg.eigvals(matrix)))[-2] == pytest.approx(0.288675, abs=5.1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_pushsum_reaches_the_mean_on_irregular_digraphs_where_averaging_does_not(seed: int) -> None:
    draws = np.random.default_rng(seed)
    n = int(draws.integers(4, 20))
    graph = nx.DiGraph([(i, (i + 1) % n) for i in range(n)])
    graph.add_edges_from((0, j) for j in range(2, n))  # one talkative worker makes it irregular
    graph.add_edges_from((int(i), int(j)) for i, j in draws.integers(n, size=(n, 2)) if i != j)
    topology = build_topology(graph)
    assert not topology.is_doubly_stochastic
    x = draws.normal(size=n)
    mean, w, rows = x.mean(), np.ones(n), x.copy()
    matrix = topology.mixing_matrix(0)
    averaging = matrix.T  # rows sum to 1: plain averaging agrees, on the wrong number
    for _ in range(3000):
        x, w, rows = matrix @ x, matrix @ w, averaging @ rows
    np.testing.assert_allclose(x / w, mean, rtol=0, atol=1e-10)
    assert np.ptp(rows) < 1e-8
    assert np.abs(rows - mean).min() > 1e-3


@pytest.mark.parametrize(
    ("delay", "after_24", "after_48"), [(1, 3.74e-3, 3.86e-6), (2, 0.132, 2.8e-3), (4, 0.659, 0.092)]
)
def test_delayed_messages_cost_exactness_but_not_the_limit(delay: int, after_24: float, after_48: float) -> None:
    topology = build_topology("one_peer_exponential", 8)
    x, w = np.arange(8.0), np.ones(8)
    flying: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    errors = {}
    for step in range(48):
        matrix = topology.mixing_matrix(step)
        own = np.diag(np.diag(matrix))
        flying[step + delay] = ((matrix - own) @ x, (matrix - own) @ w)
        x, w = own @ x, own @ w
        if step in flying:
            late_x, late_w = flying.pop(step)
            x, w = x + late_x, w + late_w
        assert x.sum() + sum(message.sum() for message, _ in flying.values()) == pytest.approx(28, abs=1e-12)
        errors[step + 1] = np.abs(x / w - 3.5).max()
    assert errors[24] == pytest.approx(after_24, rel=0.02)
    assert errors[48] == pytest.approx(after_48, rel=0.02)


def test_pairwise_gossip_halves_the_disagreement_at_the_known_rate() -> None:
    """A random matching keeps, in expectation, (1 - n/(n-1)/2) of the squared spread: pairs share what was theirs."""
    n, topology = 16, build_topology("random_matching", 16, seed=5)
    kept = np.mean([np.trace(m.T @ m - 1 / n) / (n - 1) for m in map(topology.mixing_matrix, range(200))])
    assert kept == pytest.approx(1 - n / (n - 1) / 2, abs=1e-12)  # the same for every matching


def chebyshev(matrix: np.ndarray, rho: float, steps: int) -> np.ndarray:
    """Return p(W), p the polynomial of degree ``steps`` with p(1) = 1 that is smallest on [-rho, rho]."""
    before, now = np.eye(len(matrix)), matrix.copy()
    t_before, t_now = 1.0, 1 / rho
    for _ in range(steps - 1):
        t_next = 2 / rho * t_now - t_before
        before, now = now, (2 * t_now / rho * matrix @ now - t_before * before) / t_next
        t_before, t_now = t_now, t_next
    return now


def test_chebyshev_filter_of_the_ring_meets_its_bound() -> None:
    matrix = build_topology("ring", 16).mixing_matrix(0)
    rho = 1 - 2 / 3 * (1 - np.cos(2 * np.pi / 16))
    error = np.linalg.norm(chebyshev(matrix, rho, 10) - 1 / 16, ord=2)
    assert error == pytest.approx(0.077011, abs=5.1e-7)
    assert error == pytest.approx(1 / np.cosh(10 * np.arccosh(1 / rho)))
