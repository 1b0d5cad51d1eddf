"""Figures of the analysis against closed forms and published or independently computed numbers."""

from __future__ import annotations

import numpy as np
import pytest

from sgp_core.topology import TOPOLOGIES, Topology, build_topology
from sgp_core.topology.analysis import (
    analyse,
    distance_to_mean,
    effective_neighbors,
    exact_in,
    messages_per_step,
    product,
    resistance,
    sigma_2,
    spectral_gap,
    steps_to,
)


def chain(n: int) -> Topology:
    return build_topology("spanning_tree", n, shape="chain")


GAPS = {  # chain, star, ring, directed ring, torus, hypercube, static exponential
    8: (0.050747, 0.125, 0.195262, 0.076120, 0.4, 0.5, 0.5),
    16: (0.012810, 0.0625, 0.050747, 0.019215, 0.4, 0.4, 0.4),
    32: (0.003210, 0.03125, 0.012810, 0.004815, 0.117157, 0.333333, 0.333333),
    64: (0.000803, 0.015625, 0.003210, 0.001205, 0.117157, 0.285714, 0.285714),
}


@pytest.mark.parametrize("n", GAPS)
def test_spectral_gaps(n: int) -> None:
    names = ("star", "ring", "directed_ring", "torus", "hypercube", "exponential")
    found = [spectral_gap(chain(n)), *(spectral_gap(build_topology(name, n)) for name in names)]
    np.testing.assert_allclose(found, GAPS[n], rtol=0, atol=5.1e-7)


@pytest.mark.parametrize("n", [6, 8, 12, 16, 33])
def test_spectral_gaps_in_closed_form(n: int) -> None:
    assert spectral_gap(build_topology("ring", n)) == pytest.approx(2 / 3 * (1 - np.cos(2 * np.pi / n)))
    assert spectral_gap(build_topology("directed_ring", n)) == pytest.approx(1 - np.cos(np.pi / n))
    assert spectral_gap(build_topology("star", n)) == pytest.approx(1 / n)
    assert spectral_gap(chain(n)) == pytest.approx(spectral_gap(build_topology("ring", 2 * n)))
    assert spectral_gap(build_topology("complete", n)) == pytest.approx(1)
    static = spectral_gap(build_topology("exponential", n))
    closed = 2 / (1 + (n - 1).bit_length())
    assert static == pytest.approx(closed) if n % 2 == 0 else static > closed


@pytest.mark.parametrize(
    ("n", "rho"),
    [(5, 0.25), (7, 0.353553), (9, 0.441787), (15, 0.489898), (17, 0.547621), (25, 0.510861), (33, 0.607800)],
)
def test_static_exponential_at_odd_sizes(n: int, rho: float) -> None:
    topology = build_topology("exponential", n)
    assert 1 - spectral_gap(topology) == pytest.approx(rho, abs=5.1e-7)
    assert sigma_2(topology.mixing_matrix(0)) == pytest.approx(rho, abs=5.1e-7)  # circulant, so normal


ONE_PEER_RESIDUALS = {
    **{3: 0.25, 5: 0.202, 6: 0.217, 7: 0.125, 9: 0.1175, 10: 0.192, 12: 0.209, 15: 0.0625, 24: 0.207, 31: 0.0313},
    **{33: 0.0311, 48: 0.207, 63: 0.0156, 100: 0.192},
}


@pytest.mark.parametrize("n", ONE_PEER_RESIDUALS)
def test_one_period_of_one_peer_exponential_off_powers_of_two(n: int) -> None:
    topology = build_topology("one_peer_exponential", n)
    once = distance_to_mean(product(topology, topology.period))
    assert once == pytest.approx(ONE_PEER_RESIDUALS[n], abs=5.1e-4)
    assert distance_to_mean(product(topology, 2 * topology.period)) == pytest.approx(once**2)
    if n & (n + 1) == 0:
        assert once == pytest.approx(1 / (n + 1), abs=1e-14)
    assert exact_in(topology) is None


@pytest.mark.parametrize(
    ("name", "n", "steps"),
    [
        ("ring", 16, (89, 177, 354)),
        ("ring", 32, (358, 715, 1429)),
        ("ring", 64, (1433, 2865, 5729)),
        ("torus", 64, (37, 74, 148)),
        ("hypercube", 16, (10, 19, 37)),
        ("exponential", 16, (10, 19, 37)),
        ("hypercube", 32, (12, 23, 46)),
        ("exponential", 32, (12, 23, 46)),
        ("one_peer_exponential", 16, (4, 4, 4)),
        ("one_peer_exponential", 32, (5, 5, 5)),
        ("alternating_ring", 16, (60, 118, 234)),
        ("alternating_ring", 32, (239, 476, 951)),
    ],
)
def test_steps_to_precision(name: str, n: int, steps: tuple[int, ...]) -> None:
    topology = build_topology(name, n)
    assert tuple(steps_to(topology, precision) for precision in (1e-2, 1e-4, 1e-8)) == steps


def test_steps_to_precision_agrees_with_walking_there() -> None:
    for name in ("alternating_exponential", "bipartite_exponential", "random_matching", "directed_linear"):
        topology = build_topology(name, 11)
        steps = steps_to(topology, 1e-3)
        assert steps is not None
        assert distance_to_mean(product(topology, steps)) <= 1e-3 < distance_to_mean(product(topology, steps - 1))


class Swap(Topology):
    """Workers 0 and 1 average; the others never hear of it."""

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return [1 - rank] if rank < 2 else []


def test_disconnected_graph_never_arrives() -> None:
    analysis = analyse(Swap(4))
    assert analysis.steps_to == {1e-2: None, 1e-4: None, 1e-8: None}
    assert analysis.exact_in is None
    assert analysis.spectral_gap == pytest.approx(0)
    assert analysis.algebraic_connectivity == 0


@pytest.mark.parametrize(
    ("name", "n", "options", "steps"),
    [
        ("one_peer_exponential", 32, {}, 5),
        ("one_peer_exponential", 27, {"peers": 2}, 3),
        ("alternating_exponential", 32, {}, 9),
        ("base_k", 25, {}, 9),
        ("base_k", 25, {"peers": 4}, 2),
        ("complete", 7, {}, 1),
        ("ring", 3, {}, 1),
        ("ring", 16, {}, None),
        ("equidyn", 12, {}, None),
        ("star", 1, {}, 0),
    ],
)
def test_exact_in(name: str, n: int, options: dict[str, object], steps: int | None) -> None:
    assert exact_in(build_topology(name, n, **options)) == steps


@pytest.mark.parametrize("n", range(1, 65))
def test_base_k_period_is_the_number_of_steps_to_the_exact_mean(n: int) -> None:
    topology = build_topology("base_k", n, peers=2)
    assert exact_in(topology) == (topology.period if n > 1 else 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # the hypercube's first value is 12.2346: (1/16) sum_k C(4,k) l^2 / (1 - gamma l^2), l = 1 - 2k/5
        ("ring", (6.60, 13.12, 15.63)),
        ("hypercube", (12.2346, 15.50, 15.95)),
        ("one_peer_exponential", (7.80, 14.42, 15.83)),
        ("complete", (16, 16, 16)),
    ],
)
def test_effective_neighbors(name: str, expected: tuple[float, ...]) -> None:
    topology = build_topology(name, 16)
    for gamma, value in zip((0.9, 0.99, 0.999), expected, strict=True):
        assert effective_neighbors(topology, gamma) == pytest.approx(value, abs=5.1e-3)


def test_effective_neighbors_of_a_symmetric_matrix_in_closed_form() -> None:
    for topology in (build_topology("hypercube", 16), chain(9), build_topology("star", 7)):
        eigenvalues = np.linalg.eigvalsh(topology.mixing_matrix(0))
        for gamma in (0.5, 0.9, 0.999):
            variance = np.mean(eigenvalues**2 / (1 - gamma * eigenvalues**2))
            assert effective_neighbors(topology, gamma) == pytest.approx(1 / ((1 - gamma) * variance))


def test_effective_neighbors_rank_chain_over_star_though_the_gap_does_not() -> None:
    star = build_topology("star", 16)
    assert effective_neighbors(chain(16), 0.9) > effective_neighbors(star, 0.9)
    assert spectral_gap(chain(16)) < spectral_gap(star)


@pytest.mark.parametrize(
    ("name", "options", "mean_resistance", "connectivity"),
    [
        ("spanning_tree", {"shape": "chain"}, 11, 0.00963),
        ("ring", {}, 5.5, 0.03843),
        ("star", {}, 1.9375, 1),
        ("hypercube", {}, 0.47688, 2),
        ("exponential", {}, 0.23798, 4),
        ("complete", {}, 0.0625, 32),
    ],
)
def test_resistances_of_32_workers(
    name: str, options: dict[str, object], mean_resistance: float, connectivity: float
) -> None:
    _, mean, smallest = resistance(build_topology(name, 32, **options))
    assert mean == pytest.approx(mean_resistance, abs=5.1e-6)
    assert smallest == pytest.approx(connectivity, abs=5.1e-6)


@pytest.mark.parametrize("n", [3, 8, 17])
def test_kirchhoff_index_in_closed_form(n: int) -> None:
    assert resistance(build_topology("complete", n))[0] == pytest.approx(n - 1)
    assert resistance(build_topology("star", n))[0] == pytest.approx((n - 1) ** 2)
    assert resistance(build_topology("ring", n))[0] == pytest.approx((n**3 - n) / 12)
    assert resistance(chain(n))[0] == pytest.approx((n**3 - n) / 6)


def test_messages_and_bytes() -> None:
    assert messages_per_step(build_topology("complete", 8)) == (7, 7)
    assert messages_per_step(build_topology("one_peer_exponential", 8)) == (1, 1)
    assert messages_per_step(build_topology("star", 8)) == (14 / 8, 7)
    assert messages_per_step(build_topology("alternating_ring", 5)) == (0.8, 1)
    assert analyse(build_topology("exponential", 16), model_bytes=100).bytes_per_step == 400
    assert analyse(build_topology("exponential", 16)).bytes_per_step is None


@pytest.mark.parametrize("name", sorted(set(TOPOLOGIES.names()) - {"custom"}))
@pytest.mark.parametrize("n", [1, 2, 8])
def test_analysis_of_every_topology_is_consistent(name: str, n: int) -> None:
    topology = build_topology(name, n, steps_per_epoch=5)
    analysis = analyse(topology, model_bytes=8)
    assert analysis.name == name
    assert analysis.column_stochastic
    assert analysis.row_stochastic == topology.is_doubly_stochastic
    assert 0 < analysis.spectral_gap <= 1 + 1e-12
    assert all(steps is not None for steps in analysis.steps_to.values())
    for value in analysis.effective_neighbors.values():
        assert 1 - 1e-9 <= value <= n + 1e-9
    assert analysis.bytes_per_step == 8 * analysis.messages_per_step
    assert (analysis.kirchhoff_index is None) == (topology.period is None)


def test_pushsum_contraction_is_of_the_debiased_models() -> None:
    """Uniform weights on a star are not doubly stochastic: the numerators never agree, the ratios do."""
    topology = build_topology("star", 8, weights="uniform")
    long_run = product(topology, 200)
    assert np.abs(long_run - 1 / 8).max() > 0.05
    assert distance_to_mean(long_run) < 1e-9
    assert analyse(topology).row_stochastic is False
