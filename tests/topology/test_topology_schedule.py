"""Schedules over topologies: the right phase at the right step, and mass conserved across every switch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.topology import TOPOLOGIES, build_topology, validate

HYBRID = [
    {"start": 0, "name": "one_peer_exponential", "peers": 2},
    {"start": 30, "name": "one_peer_exponential", "peers": 1},
]


def test_hybrid_switches_from_two_peers_to_one_at_epoch_30() -> None:
    hybrid = build_topology("schedule", 9, phases=HYBRID, steps_per_epoch=7)
    two, one = build_topology("one_peer_exponential", 9, peers=2), build_topology("one_peer_exponential", 9)
    for step in range(30 * 7):
        assert hybrid.edges(step) == two.edges(step)
    for step in range(30 * 7, 40 * 7):  # the phase begins with the first graph of its topology
        assert hybrid.edges(step) == one.edges(step - 30 * 7)
        np.testing.assert_array_equal(hybrid.mixing_matrix(step), one.mixing_matrix(step - 30 * 7))
    assert hybrid.period is None
    assert hybrid == build_topology("schedule", 9, steps_per_epoch=7)  # it is also the default


def test_steps_need_no_epoch() -> None:
    phases = [{"start": 0, "name": "complete"}, {"start": 5, "name": "star", "weights": "uniform"}]
    topology = build_topology("schedule", 4, phases=phases, unit="step")
    degrees = [len(topology.out_peers(1, step)) for step in range(8)]
    assert degrees == [3] * 5 + [1] * 3
    assert not topology.is_doubly_stochastic
    validate(topology)


def test_epochs_need_their_length() -> None:
    topology = build_topology("schedule", 4)
    with pytest.raises(ConfigurationError, match="needs steps_per_epoch"):
        topology.edges(0)
    assert build_topology(topology, steps_per_epoch=3).out_peers(0, 0) == (1, 2)
    assert build_topology("ring", 4, steps_per_epoch=3) == build_topology("ring", 4)


def test_single_phase_is_that_topology() -> None:
    topology = build_topology("schedule", 8, phases=[{"start": 0, "name": "one_peer_exponential"}])
    assert topology.period == 3
    assert topology.is_doubly_stochastic
    assert topology.edges(4) == build_topology("one_peer_exponential", 8).edges(4)


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "needs at least one phase"),
        ([{"start": 1, "name": "ring"}], "first phase start at 0, not 1"),
        ([{"start": 0, "name": "ring"}, {"start": 0, "name": "star"}], "phase 1 start at 0, not after 0"),
        ([{"start": 0, "name": "rign"}], "phase 0: unknown topology 'rign'; did you mean 'ring'"),
        ([{"start": 0, "name": "ring", "peers": 2}], "phase 0: topology 'ring' has no option 'peers'"),
        ([{"start": 0, "name": "ring"}, {"start": 3, "name": "hypercube"}], "phase 1: .* nearest: 4 or 8"),
        ([{"name": "ring"}], "whole number as the start of phase 0, not None"),
        ([{"start": 0}], "needs the name of a topology in phase 0"),
        ([{"start": 0, "name": "schedule"}], "cannot hold another schedule"),
        (["ring"], "phase 0 must be a mapping"),
    ],
)
def test_mistakes_name_the_phase(phases: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_topology("schedule", 6, phases=phases)


names = st.sampled_from(sorted(set(TOPOLOGIES.names()) - {"custom", "schedule", "hypercube"}))


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 33),
    chosen=st.lists(names, min_size=1, max_size=4),
    gaps=st.lists(st.integers(1, 5), min_size=3, max_size=3),
    unit=st.sampled_from(["epoch", "step"]),
    seed=st.integers(0, 99),
)
def test_switches_conserve_mass(n: int, chosen: list[str], gaps: list[int], unit: str, seed: int) -> None:
    starts = np.cumsum([0, *gaps]).tolist()
    phases = [{"start": start, "name": name} for start, name in zip(starts, chosen, strict=False)]
    phases[0]["weights" if chosen[0] == "star" else "name"] = "uniform" if chosen[0] == "star" else chosen[0]
    topology = build_topology("schedule", n, phases=phases, unit=unit, steps_per_epoch=2)
    draws = np.random.default_rng(seed)
    x, w = draws.normal(size=(n, 2)), np.ones(n)
    total = x.sum(axis=0)
    for step in range(2 * starts[-1] + 4):
        matrix, edges = topology.mixing_matrix(step), topology.edges(step)
        for i in range(n):  # what a worker receives is what its peers send: both sides read the same phase
            for j, weight in zip(edges.in_peers[i], edges.in_weights[i], strict=True):
                assert i in edges.out_peers[j]
                assert matrix[i, j] == weight
        x, w = matrix @ x, matrix @ w
    np.testing.assert_allclose(x.sum(axis=0), total, rtol=0, atol=1e-12)
    assert w.sum() == pytest.approx(n, abs=1e-12)
