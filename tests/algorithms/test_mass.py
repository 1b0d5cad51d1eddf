"""Mass is conserved: communication never changes the sum of numerators or of weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sgp_core
from sgp_core.algorithms import ALGORITHMS, OUTERS
from sgp_core.errors import ConfigurationError
from sgp_core.topology import TOPOLOGIES

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
NEEDS_OPTIONS = {"custom", "schedule"}


def _topology(name: str, other: str, n: int, switch: int):
    if name != "schedule":
        return sgp_core.build_topology(name, world_size=n)
    phases = [{"start": 0, "name": other}, {"start": switch, "name": "one_peer_exponential", "peers": 2}]
    return sgp_core.build_topology("schedule", world_size=n, unit="step", phases=phases)


def _algorithm(name: str, outer: str, tau: int):
    base = sgp_core.build_algorithm(name, **({"period": 3} if name == "local_sgd" else {}))
    return sgp_core.build_outer(outer, base, **({} if outer == "none" else {"tau": tau}))


@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    algorithm=st.sampled_from(ALGORITHMS.names()),
    outer=st.sampled_from(["none", *OUTERS.names()]),
    tau=st.integers(1, 5),
    topology=st.sampled_from([name for name in TOPOLOGIES.names() if name != "custom"]),
    other=st.sampled_from([name for name in TOPOLOGIES.names() if name not in NEEDS_OPTIONS]),
    n=st.integers(1, 33),
    switch=st.integers(1, 9),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 2**16),
)
def test_sums_of_numerators_and_weights_are_conserved(algorithm, outer, tau, topology, other, n, switch, dtype, seed):
    try:
        rule, graph = _algorithm(algorithm, outer, tau), _topology(topology, other, n, switch)
        rule.check(graph)
    except ConfigurationError:
        return  # this graph cannot exist for n, or this rule refuses it: said elsewhere
    generator = torch.Generator().manual_seed(seed)
    initial = torch.randn(n, 7, generator=generator, dtype=torch.float64).to(dtype)
    run = sgp_core.simulate(
        rule,
        graph,
        initial,
        lambda z, step: torch.zeros_like(z),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        steps=12,
    )
    scale = initial.double().abs().sum(0).max()
    # Numerators are formed in float64, so that it is the run's rounding that is measured, not the test's.
    drift = (run.w.unsqueeze(-1) * run.z.double()).sum(1) - initial.double().sum(0)
    assert drift.abs().max() <= TOLERANCE[dtype] * scale * 12
    assert (run.w.sum(1) - n).abs().max() <= 1e-12 * n


@pytest.mark.parametrize("n", [2, 3, 5, 8, 33])
def test_only_updates_move_the_sum_of_numerators(n):
    """On an irregular digraph, the sum of numerators moves by exactly the sum of the optimizer's updates."""
    graph = sgp_core.build_topology("erdos_renyi", world_size=n, weights="uniform")
    noise = torch.randn(20, n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    run = sgp_core.simulate(
        sgp_core.build_algorithm("sgp"),
        graph,
        torch.zeros(n, 3, dtype=torch.float64),
        lambda z, step: noise[step],
        optimizer=lambda p: torch.optim.SGD(p, lr=0.3),
        steps=20,
    )
    expected = -0.3 * noise.sum(1).cumsum(0)
    torch.testing.assert_close(run.x.sum(1)[1:], expected, rtol=0, atol=1e-11)
