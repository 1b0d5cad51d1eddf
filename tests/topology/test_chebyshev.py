"""Chebyshev-accelerated gossip: the polynomial is the best one, published counts of rounds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sgp_core
from sgp_core.errors import ConfigurationError
from sgp_core.topology import build_topology
from sgp_core.topology.analysis import steps_to
from sgp_core.topology.chebyshev import gain, plain_rounds_to, rounds_to, second_modulus, worst_gain

SYMMETRIC = [("ring", 3), ("ring", 7), ("ring", 16), ("torus", 12), ("hypercube", 8), ("star", 5), ("complete", 6)]


@pytest.mark.parametrize(
    ("name", "n", "plain", "accelerated"),
    [
        ("ring", 16, (89, 177, 266, 354), (17, 31, 45, 59)),
        ("ring", 32, (358, 715, 1072, 1429), (33, 62, 91, 119)),
        ("ring", 64, (1433, 2865, 4297, 5729), (67, 124, 181, 239)),
        ("torus", 64, (37, 74, 111, 148), (11, 20, 29, 38)),
    ],
)
def test_rounds_to_a_precision(name: str, n: int, plain: tuple[int, ...], accelerated: tuple[int, ...]) -> None:
    topology, precisions = build_topology(name, n), (1e-2, 1e-4, 1e-6, 1e-8)
    rho = second_modulus(topology)
    assert tuple(steps_to(topology, precision) for precision in precisions) == plain
    assert tuple(plain_rounds_to(rho, precision) for precision in precisions) == plain
    assert tuple(rounds_to(rho, precision) for precision in precisions) == accelerated
    for precision, rounds in zip(precisions, accelerated, strict=True):
        assert worst_gain(rho, rounds) <= precision < worst_gain(rho, rounds - 1)


def test_ten_rounds_on_a_ring_of_16() -> None:
    matrix = build_topology("ring", 16).mixing_matrix(0)
    rho = second_modulus(build_topology("ring", 16))
    kept = gain(np.linalg.eigvalsh(matrix), 10, rho)
    assert np.sort(np.abs(kept))[-2] == pytest.approx(0.077011, abs=5e-7)
    assert worst_gain(rho, 10) == pytest.approx(0.077011, abs=5e-7)


@given(graph=st.sampled_from(SYMMETRIC), rounds=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_rounds_of_gossip_are_the_polynomial_and_conserve_the_mean(graph, rounds, seed) -> None:
    """By the very rule and network that training uses, in the simulator."""
    topology = build_topology(graph[0], graph[1])
    start = torch.randn(graph[1], 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    run = sgp_core.simulate(
        sgp_core.build_algorithm("sgp"),
        topology,
        start,
        lambda z, step: torch.zeros_like(z),
        steps=1,
        pace=sgp_core.build_pace("rounds", rounds=rounds, filter="chebyshev"),
    )
    values, vectors = np.linalg.eigh(topology.mixing_matrix(0))
    rho = second_modulus(topology)
    expected = vectors @ (gain(values, rounds, rho)[:, None] * (vectors.T @ start.numpy()))
    np.testing.assert_allclose(run.z[-1].numpy(), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(run.z[-1].mean(0), start.mean(0), rtol=0, atol=1e-13)
    spread = np.linalg.norm(run.z[-1] - start.mean(0), 2) / np.linalg.norm(start - start.mean(0), 2)
    assert spread <= worst_gain(rho, rounds) + 1e-12


@given(degree=st.integers(1, 8), rho=st.floats(0.1, 0.99), seed=st.integers(0, 999))
@settings(max_examples=50, deadline=None)
def test_no_polynomial_of_the_degree_leaves_less(degree: int, rho: float, seed: int) -> None:
    """p(1) = 1; the roots of any other polynomial leave a larger maximum over [-rho, rho]."""
    roots = np.random.default_rng(seed).uniform(-rho, rho, degree)
    grid = np.linspace(-rho, rho, 2001)
    other = np.abs(np.prod([(grid - root) / (1 - root) for root in roots], axis=0)).max()
    assert other >= worst_gain(rho, degree) - 1e-6
    assert np.abs(gain(grid, degree, rho)).max() <= worst_gain(rho, degree) + 1e-12


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("one_peer_exponential", {}),
        ("directed_ring", {}),
        ("base_k", {}),
        ("star", {"weights": "uniform"}),
        ("random_matching", {}),
        ("schedule", {}),
    ],
)
def test_directed_and_changing_graphs_are_refused(name: str, options: dict[str, object]) -> None:
    topology = build_topology(name, 6, **options)
    with pytest.raises(ConfigurationError, match="pace 'rounds' with filter=chebyshev needs symmetric mixing weights"):
        simulate_with(topology)


def test_codecs_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="combines exact rounds, and codecs mix approximately"):
        simulate_with(build_topology("ring", 4), compression=sgp_core.build_compression("int8"))


def simulate_with(topology, **options) -> None:
    sgp_core.simulate(
        sgp_core.build_algorithm("sgp"),
        topology,
        torch.zeros(topology.world_size, 2),
        lambda z, step: z,
        steps=1,
        pace=sgp_core.build_pace("rounds", filter="chebyshev"),
        **options,
    )


def test_one_worker_and_one_round_are_plain() -> None:
    simulate_with(build_topology("ring", 1))
    assert second_modulus(build_topology("ring", 1)) == 0.0
    start = torch.arange(5, dtype=torch.float64).unsqueeze(1)
    runs = [
        sgp_core.simulate(
            sgp_core.build_algorithm("sgp"),
            build_topology("ring", 5),
            start,
            lambda z, step: torch.zeros_like(z),
            steps=3,
            pace=sgp_core.build_pace("rounds", rounds=1, filter=name),
        ).z
        for name in ("plain", "chebyshev")
    ]
    assert torch.equal(runs[0], runs[1])
