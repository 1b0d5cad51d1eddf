"""Mass is conserved: communication never changes the sum of numerators or of weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import sgp_core
from sgp_core.algorithms import ALGORITHMS, OUTERS, Outer
from sgp_core.compatibility import check_compatibility
from sgp_core.errors import ConfigurationError
from sgp_core.topology import TOPOLOGIES
from tests.support.examples import examples

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
STEPS = 12
CONSERVING = [name for name in ALGORITHMS.names() if ALGORITHMS.get(name).traits.conserves_sum]
"""All but relaysgd, whose averages are of models of different ages: see test_heterogeneous_data.py."""
IRREGULAR = ["star", "spanning_tree", "erdos_renyi"]
"""Graphs whose degrees differ: with uniform weights, PushSum weights leave 1."""


def _topology(name: str, other: str, n: int, switch: int, uniform: bool):
    weights = {"weights": "uniform"} if uniform else {}
    if name != "schedule":
        return sgp_core.build_topology(name, world_size=n, **(weights if name in IRREGULAR else {}))
    irregular = weights if other in IRREGULAR else {}
    phases = [{"start": 0, "name": other, **irregular}, {"start": switch, "name": "one_peer_exponential", "peers": 2}]
    return sgp_core.build_topology("schedule", world_size=n, unit="step", phases=phases)


def _algorithm(name: str, outer: str, tau: int):
    base = sgp_core.build_algorithm(name, **({"period": 3} if "period" in ALGORITHMS.options(name) else {}))
    return sgp_core.build_outer(outer, base, **({} if outer == "none" else {"tau": tau}))


def _run(rule, graph, dtype, seed, *, apart=False, **options):
    """Communicate without learning from random numerators; returns the run and the sums of numerators, float64.

    Args:
        apart: with an optimizer of which nothing is known, so that models stay as they are until it has stepped.
    """
    sgd = UnknownSGD if apart else torch.optim.SGD
    generator = torch.Generator().manual_seed(seed)
    initial = torch.randn(graph.world_size, 7, generator=generator, dtype=torch.float64).to(dtype)
    run = sgp_core.simulate(
        rule,
        graph,
        initial,
        lambda z, step: torch.zeros_like(z),
        optimizer=lambda p: sgd(p, lr=0.1, momentum=0.0 if rule.traits.own_momentum else 0.9),
        **{"steps": STEPS, **options},
    )
    # Numerators are formed in float64, so that it is the run's rounding that is measured, not the test's.
    sums = (run.w.unsqueeze(-1) * run.z.double()).sum(1) + run.x_in_flight.double()
    return run, sums, initial.double().abs().sum(0).max()


class UnknownSGD(torch.optim.SGD):
    """One that might read parameters."""


def _check_conserved(rule, graph, dtype, seed, **options):
    run, sums, scale = _run(rule, graph, dtype, seed, **options)
    base = rule.base if isinstance(rule, Outer) else rule
    kept = STEPS if ALGORITHMS.name_of(type(base)) == "d2" else 1  # it adds the rounding of all steps before to each
    tolerance = kept * TOLERANCE[dtype] * scale
    assert sums.diff(dim=0).abs().max() <= tolerance, "a single step changed the sum"
    if not isinstance(rule, Outer):  # an outer also updates, by multiples of what it remembers: rounding adds up
        assert (sums - sums[0]).abs().max() <= tolerance
    assert (run.w.sum(1) + run.w_in_flight - graph.world_size).abs().max() <= 1e-12 * graph.world_size
    return run


@settings(
    max_examples=examples(60), deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much]
)
@given(
    algorithm=st.sampled_from(CONSERVING),
    outer=st.sampled_from(["none", *OUTERS.names()]),
    tau=st.integers(1, 5),
    topology=st.sampled_from([name for name in TOPOLOGIES.names() if name != "custom"]),
    other=st.sampled_from([name for name in TOPOLOGIES.names() if name not in ("custom", "schedule")]),
    n=st.integers(1, 33),
    switch=st.integers(1, 9),
    uniform=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 2**16),
)
def test_sums_are_conserved(algorithm, outer, tau, topology, other, n, switch, uniform, dtype, seed):
    try:
        rule, graph = _algorithm(algorithm, outer, tau), _topology(topology, other, n, switch, uniform)
        rule.check(graph)
    except ConfigurationError:
        assume(False)  # this graph cannot exist for n, or this rule refuses it: said elsewhere
    _check_conserved(rule, graph, dtype, seed)


@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(
    outer=st.sampled_from(["none", *sorted({*OUTERS.names()} - {"noloco"})]),  # which has no weights, and refuses
    tau=st.integers(2, 5),
    topology=st.sampled_from(["schedule", *IRREGULAR]),
    other=st.sampled_from(IRREGULAR),
    n=st.integers(4, 33),
    switch=st.integers(2, 9),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 2**16),
)
def test_sums_are_conserved_where_weights_leave_one(outer, tau, topology, other, n, switch, dtype, seed):
    graph = _topology(topology, other, n, switch, uniform=True)
    assume(not graph.is_doubly_stochastic)  # a random graph may happen to be regular
    run = _check_conserved(_algorithm("sgp", outer, tau), graph, dtype, seed)
    assert (run.w - 1).abs().max() > 0.05


@settings(
    max_examples=examples(60), deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much]
)
@given(
    overlap_steps=st.integers(1, 5),
    outer=st.sampled_from(["none", "slowmo"]),
    tau=st.integers(2, 5),
    phases=st.lists(
        st.tuples(st.sampled_from(["one_peer_exponential", "ring", "star", "equidyn", "hypercube"]), st.integers(1, 3)),
        min_size=2,
        max_size=4,
    ),
    n=st.sampled_from([2, 3, 4, 5, 8, 13, 16]),
    seed=st.integers(0, 2**16),
)
def test_sums_are_conserved_while_graphs_and_peer_counts_change_over_messages_in_flight(
    overlap_steps, outer, tau, phases, n, seed
):
    chosen = []
    for number, (name, peers) in enumerate(phases):
        options = {"star": {"weights": "uniform"}, "one_peer_exponential": {"peers": min(peers, n - 1)}}.get(name, {})
        chosen.append({"start": 3 * number, "name": name, **options})
    try:
        graph = sgp_core.build_topology("schedule", world_size=n, unit="step", phases=chosen)
    except ConfigurationError:
        assume(False)
    base = sgp_core.build_algorithm("sgp", overlap_steps=overlap_steps, order="atc")
    rule = sgp_core.build_outer(outer, base, **({} if outer == "none" else {"tau": tau}))
    run = _check_conserved(rule, graph, torch.float64, seed)
    assert run.w_in_flight[1] > 0.3


PACES = [
    None,
    sgp_core.build_pace("every", steps=2),
    sgp_core.build_pace("every", warmup_steps=3),
    sgp_core.build_pace("target", distance=0.05, every=2),
    sgp_core.build_pace("threshold", action="round", distance=0.2, every=2),
    sgp_core.build_pace("threshold", action="average", distance=0.2, every=2),
]


@settings(max_examples=examples(150), deadline=None, derandomize=True)
@given(
    algorithm=st.sampled_from(["osgp", "osgp", "gossip_pga", "dpsgd", "gradient_tracking"]),
    outer=st.sampled_from(["none", "none", *OUTERS.names()]),
    tau=st.integers(2, 5),
    phases=st.lists(
        st.tuples(st.sampled_from(["one_peer_exponential", "ring", *IRREGULAR, "equidyn"]), st.integers(1, 3)),
        min_size=1,
        max_size=4,
    ),
    uniform=st.booleans(),
    n=st.sampled_from([1, 2, 3, 4, 5, 8]),
    pace=st.sampled_from([None, *PACES]),
    codec=st.sampled_from([*[None] * 7, "int8", "top_k"]),
    apart=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_sums_are_conserved_while_models_travel_as_gradients_are_computed(
    algorithm, outer, tau, phases, uniform, n, pace, codec, apart, seed
):
    """At a step's end all mass is in the models, whatever is under way."""
    weights = {"weights": "uniform"} if uniform else {}
    chosen = []
    for number, (name, peers) in enumerate(phases):
        options = weights if name in IRREGULAR else {}
        options |= {"peers": max(1, min(peers, n - 1))} if name == "one_peer_exponential" else {}
        chosen.append({"start": 2 * number, "name": name, **options})
    period = {"period": 3} if algorithm == "gossip_pga" else {}
    base = sgp_core.build_algorithm(algorithm, order="awc", **period)
    compression = None if codec is None else sgp_core.build_compression(codec)
    graph = sgp_core.build_topology("schedule", world_size=n, unit="step", phases=chosen)
    try:
        rule = sgp_core.build_outer(outer, base, **({} if outer == "none" else {"tau": tau}))
        check_compatibility(rule, graph, pace=pace, compression=compression)
    except ConfigurationError:
        rule = sgp_core.build_algorithm("osgp")  # which is defined everywhere
    options = {"pace": pace, "compression": compression, "steps": 8}
    run = _check_conserved(rule, graph, torch.float64, seed, apart=apart, **options)
    assert not run.w_in_flight.any()
    assert not run.x_in_flight.any()


@pytest.mark.parametrize("n", [2, 3, 5, 8, 33])
@pytest.mark.parametrize("order", ["atc", "awc"])
def test_only_updates_move_the_sum_of_numerators(n, order):
    """On an irregular digraph, the sum of numerators moves by exactly the sum of the optimizer's updates."""
    graph = sgp_core.build_topology("erdos_renyi", world_size=n, weights="uniform")
    noise = torch.randn(20, n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    run = sgp_core.simulate(
        sgp_core.build_algorithm("sgp", order=order),
        graph,
        torch.zeros(n, 3, dtype=torch.float64),
        lambda z, step: noise[step],
        optimizer=lambda p: torch.optim.SGD(p, lr=0.3),
        steps=20,
    )
    expected = -0.3 * noise.sum(1).cumsum(0)
    torch.testing.assert_close(run.x.sum(1)[1:], expected, rtol=0, atol=1e-11)
