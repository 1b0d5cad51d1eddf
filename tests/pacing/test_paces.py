"""How often workers gossip, in the simulator."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sgp_core
from sgp_core.errors import ConfigurationError
from sgp_core.pacing import Pace
from sgp_core.runtime.random_projection import WIDTH, RandomProjection, distance
from sgp_core.tensors.flat_vector import FlatVector

N, D = 8, 500
AHEAD = sgp_core.build_algorithm("osgp")
LATE = sgp_core.build_algorithm("osgp", order="atc")


def topology(name="one_peer_exponential"):
    return sgp_core.build_topology(name, world_size=N, **({"weights": "uniform"} if name == "star" else {}))


def average(pace: Pace, steps: int, graph="one_peer_exponential", algorithm=None):
    """Average 0 to 7 without learning."""
    return sgp_core.simulate(
        algorithm or sgp_core.build_algorithm("sgp"),
        topology(graph),
        torch.arange(N, dtype=torch.float64).unsqueeze(1),
        lambda z, step: torch.zeros_like(z),
        steps=steps,
        pace=pace,
    )


def train(pace: Pace, steps: int, graph="one_peer_exponential", lr=lambda step: 0.05, d=D):
    """Noisy quadratics, alike for all workers."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(d, generator=generator, dtype=torch.float64)
    return sgp_core.simulate(
        sgp_core.build_algorithm("sgp"),
        topology(graph),
        (target + 0.1).expand(N, -1),
        lambda z, step: z - target + torch.randn(N, d, generator=generator, dtype=torch.float64),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.05),
        lr=lr,
        steps=steps,
        pace=pace,
    )


@pytest.mark.parametrize("algorithm", [None, AHEAD])
@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_silence_skips_no_edge(every, algorithm):
    run = average(sgp_core.build_pace("every", steps=every), 3 * every, algorithm=algorithm)
    error = (run.z - 3.5).abs().amax((1, 2))
    assert error[3 * every - 1] > 0.1
    assert error[3 * every] < 1e-12  # three rounds of this graph make the mean, however far apart they are


@pytest.mark.parametrize("graph", ["ring", "star"])
@pytest.mark.parametrize("overlap_steps", [0, 1, 2])
def test_a_warm_up_averages_exactly(graph, overlap_steps):
    algorithm = sgp_core.build_algorithm("sgp", overlap_steps=overlap_steps)
    run = average(sgp_core.build_pace("every", warmup_steps=2), 4, graph, algorithm)
    assert (run.z[1:] - 3.5).abs().max() < 1e-12
    assert (run.w.sum(1) + run.w_in_flight - N).abs().max() < 1e-12
    assert (run.w[:3] == 1).all()
    assert (run.w_in_flight[3] > 0) == (overlap_steps > 1)


@pytest.mark.parametrize("graph", ["one_peer_exponential", "ring", "star"])
def test_the_estimate_is_within_a_tenth(graph):
    run = train(sgp_core.build_pace("target", distance=0.03, every=3), 300, graph, d=8 * WIDTH)
    exact = run.consensus_distance
    assert len(run.estimates) > 20
    for step, estimate in run.estimates:
        if exact[step + 1] > 1e-12:  # some rounds end with the exact mean
            assert estimate == pytest.approx(float(exact[step + 1]), rel=0.1)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(rank=st.integers(1, 3), width=st.sampled_from([10, 64, 512, 700]), seed=st.integers(0, 1000))
def test_models_that_differ_in_few_directions_are_told_apart_as_well(rank, width, seed):
    """Differences of low rank, as gradients of linear layers make them, whose rows are parallel."""
    generator = torch.Generator().manual_seed(seed)
    rows = 2000
    left = torch.randn(4, rows, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(4, rank, width, generator=generator, dtype=torch.float64)
    models = 10 + 0.01 * (left @ right).view(4, -1)
    sketches, squares = zip(
        *(RandomProjection(FlatVector([models[0]])).of(FlatVector([model])) for model in models), strict=True
    )
    exact = (models - models.mean(0)).square().sum(1).mean().sqrt() / models.mean(0).norm()
    assert distance(torch.stack(sketches), torch.stack(squares)) == pytest.approx(float(exact), rel=0.2)


@pytest.mark.parametrize("cut", [0, 1, 300_000, 524_288, 900_000])
def test_sketches_of_shards_add_up_to_that_of_the_whole(cut):
    generator = torch.Generator().manual_seed(2)
    whole = [torch.randn(size, generator=generator) for size in (1_100_000, 1_000_000)]
    sketch, square = RandomProjection(FlatVector(whole)).of(FlatVector(whole))
    shards = [[tensor[:cut] for tensor in whole], [tensor[cut:] for tensor in whole]]
    parts = [
        RandomProjection(FlatVector(shard), [0, 0] if first else [cut, cut]).of(FlatVector(shard))
        for first, shard in ((1, shards[0]), (0, shards[1]))
    ]
    torch.testing.assert_close(sum(part for part, _ in parts), sketch, rtol=1e-9, atol=1e-9)
    assert float(sum(norm for _, norm in parts)) == pytest.approx(float(square))


@pytest.mark.parametrize("graph", ["one_peer_exponential", "ring"])
def test_a_distance_is_held_through_a_drop_of_the_learning_rate(graph):
    run = train(sgp_core.build_pace("target", distance=0.03), 1500, graph, lambda step: 0.05 if step < 500 else 0.005)
    for begin in (250, 750, 1000, 1250):
        assert float(run.consensus_distance[begin : begin + 250].mean()) == pytest.approx(0.03, rel=0.2)
    plain = train(sgp_core.build_pace("every"), 1000, graph, lambda step: 0.05 if step < 500 else 0.005)
    assert float(plain.consensus_distance[750:].mean()) < 0.3 * float(plain.consensus_distance[250:500].mean())


def through_a_drop(pace: Pace):
    """Return the distances at a learning rate and, from half of the steps on, at a tenth of it."""
    return train(pace, 800, lr=lambda step: 0.05 if step < 400 else 0.005).consensus_distance


def test_more_rounds_or_peers_hold_the_distance_below_and_end_when_they_are_not_needed():
    plain = through_a_drop(sgp_core.build_pace("every"))
    for action, most in (("round", 0.02), ("peers", 0.025)):
        apart = through_a_drop(sgp_core.build_pace("threshold", action=action, distance=most))
        assert float(plain[100:400].mean()) > 1.3 * most
        assert 0.5 * most < float(apart[100:400].max()) < most, action
        torch.testing.assert_close(apart[700:].mean(), plain[700:].mean(), rtol=0.1, atol=0)


def test_exact_averages_hold_workers_at_a_distance_that_say_nothing_else():
    apart = through_a_drop(sgp_core.build_pace("threshold", action="average", distance=0.1, every=1, steps=0))
    averages = [int((part < 1e-12).sum()) for part in (apart[1:400], apart[400:])]
    assert float(apart[100:400].mean()) < 0.1
    assert float(apart[100:400].max()) < 0.125  # it has gone on for as long as news take
    assert 20 < averages[0] < 60
    assert averages[1] <= 1, "the noise of so small a rate does not take them that far apart"


def test_a_phase_of_a_schedule_begins_at_its_step_however_many_rounds_there_were():
    phases = [{"start": 0, "name": "ring"}, {"start": 6, "name": "complete"}]
    schedule = sgp_core.build_topology("schedule", world_size=N, unit="step", phases=phases)
    for pace, first in (({"steps": 3}, 9), ({"warmup_steps": 0}, 7)):
        run = sgp_core.simulate(
            sgp_core.build_algorithm("sgp"),
            schedule,
            torch.arange(N, dtype=torch.float64).unsqueeze(1),
            lambda z, step: torch.zeros_like(z),
            steps=9,
            pace=sgp_core.build_pace("every", **pace),
        )
        exact = run.consensus_distance < 1e-12
        assert int(exact.int().argmax()) == first, pace


@pytest.mark.parametrize(
    ("name", "options", "algorithm", "words"),
    [
        ("every", {"steps": 0}, "sgp", "steps must be at least 1, not 0"),
        ("every", {"warmup_steps": -1}, "sgp", "warmup_steps must be 0 or more, not -1"),
        ("target", {"distance": 0.0}, "sgp", "distance must be positive, not 0.0"),
        ("target", {"most_rounds": 0}, "sgp", "most_rounds must be at least 1, not 0"),
        ("threshold", {"action": "peer"}, "sgp", "no action 'peer'; did you mean 'peers'?"),
        ("threshold", {"distance": -1.0}, "sgp", "distance must be positive, not -1.0"),
        ("threshold", {"calm": 0.0}, "sgp", "calm must be above 0 and at most 1"),
        ("threshold", {"every": 0}, "sgp", "every must be at least 1, not 0"),
        ("threshold", {"steps": 0, "action": "peers"}, "sgp", "steps must be at least 1, not 0"),
        ("threshold", {"denser": {"name": "ring"}}, "sgp", "denser is for action=peers"),
        ("threshold", {"denser": {"name": "schedule"}, "action": "peers"}, "sgp", "denser must name a topology"),
        ("threshold", {"denser": {"name": "ring", "x": 1}, "action": "peers"}, "sgp", "denser: topology 'ring' has no"),
        ("threshold", {"denser": {"name": "directed_ring", "peers": 2}, "action": "peers"}, "sgp", "no option 'peers'"),
        ("threshold", {}, LATE, "use overlap_steps=0, or overlap_steps=1 with order=adapt_while_communicate"),
        ("every", {"steps": 2}, LATE, "use overlap_steps=0"),
        ("target", {}, "local_sgd", "rhythm of its own"),
        ("every", {"warmup_steps": 3}, "allreduce", "rhythm of its own"),
    ],
)
def test_what_cannot_be_is_refused(name, options, algorithm, words):
    rule = sgp_core.build_algorithm(algorithm) if isinstance(algorithm, str) else algorithm
    with pytest.raises(ConfigurationError, match=words):
        average(sgp_core.build_pace(name, **options), 1, algorithm=rule)


def test_a_denser_graph_that_an_algorithm_is_not_defined_on_is_refused():
    pace = sgp_core.build_pace("threshold", action="peers", denser={"name": "star", "weights": "uniform"})
    with pytest.raises(ConfigurationError, match="'dpsgd' needs mixing weights"):
        average(pace, 1, algorithm=sgp_core.build_algorithm("dpsgd"))
    with pytest.raises(ConfigurationError, match="topology 'ring' has no number of peers to raise"):
        average(sgp_core.build_pace("threshold", action="peers"), 1, "ring")


def test_an_outer_is_paced_as_its_base():
    outer = sgp_core.build_outer("slowmo", sgp_core.build_algorithm("sgp"), tau=4)
    run = average(sgp_core.build_pace("every", steps=2), 4, algorithm=outer)
    assert (run.z[3] - 3.5).abs().max() > 0.1
    assert (run.z[4] - 3.5).abs().max() < 1e-12
