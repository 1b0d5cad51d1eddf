"""DiLoCo in fragments: exact where it is plain, else the simulator's numbers, and to the bit after a resume."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sgp_core
from sgp_core.algorithms.diloco import DiLoCo
from sgp_core.algorithms.fragments import FragmentPattern, FragmentTurns
from sgp_core.clock import NetworkModel, build_computation, predict, traffic_of
from sgp_core.errors import ConfigurationError
from sgp_core.simulator.coded_means import average_coded
from sgp_core.tensors.flat_vector import FlatVector
from tests.support.workers import run_workers
from tests.workers import streaming
from tests.workers.agreement import Irregular, simulate_case
from tests.workers.streaming import FRAGMENTS, OVERLAP, STEPS, TAU, make_rule


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_workers(4, streaming.everything, streaming.make_cases(), tmp_path_factory.mktemp("streaming"))


def test_one_fragment_that_all_wait_for_is_plain_diloco_to_the_bit(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        plain, in_fragments = rank["whole"]
        assert torch.equal(plain, in_fragments)
    assert torch.equal(ranks[0]["whole"][0][TAU], ranks[3]["whole"][0][TAU])
    assert not torch.equal(ranks[0]["whole"][0][TAU - 1], ranks[3]["whole"][0][TAU - 1])


def test_real_workers_have_the_numbers_of_the_simulator(ranks: list[dict[str, Any]]) -> None:
    for number, (algorithm, topology, kind, options) in enumerate(streaming.make_cases()):
        simulated = simulate_case(algorithm, topology, kind, STEPS, **options)
        size = int(options.get("node_size", 1))
        real = torch.stack([rank["cases"][number]["z"] for rank in ranks[::size]], dim=1)
        assert (real - simulated.z).abs().max() <= 1e-12, algorithm
        assert isinstance(algorithm, DiLoCo)
        if algorithm.codec is None and "compression" not in options:  # there, codes count as what they stand for
            sent = sum(rank["cases"][number]["sent"] for rank in ranks) / 4 * size
            assert sent == pytest.approx(simulated.bytes_sent, rel=1e-3)


def test_a_resume_with_a_fragment_under_way_changes_no_bit(ranks: list[dict[str, Any]]) -> None:
    for found in (found for rank in ranks for found in rank["resumed"]):
        assert found["under way"] == 1
        assert found["same"] == [True, True]
        assert len(set(found["sent"])) == 1
    assert ranks[0]["reshaped"] > 0


def test_the_most_that_is_sent_in_a_step_is_a_quarter(ranks: list[dict[str, Any]]) -> None:
    sent = ranks[0]["sent"]
    assert sum(sent["fragments"]) == pytest.approx(sum(sent["whole"]), rel=1e-3)
    assert max(sent["fragments"]) == pytest.approx(max(sent["whole"]) / FRAGMENTS, rel=0.01)
    assert [step + 1 for step, nbytes in enumerate(sent["fragments"]) if nbytes] == list(range(3, 2 * TAU + 1, 3))
    code = 48  # two scales and 38 bytes for the 75 or 76 numbers of a slice, and padding; to three others, twice
    assert [nbytes for nbytes in sent["int4"] if nbytes] == [6 * code] * 2 * FRAGMENTS


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 9), st.sampled_from(FragmentPattern), st.integers(1, 3), st.integers(1, 90))
def test_every_element_and_every_fragment_has_one_turn(
    tau: int, count: int, pattern: FragmentPattern, shards: int, numel: int
) -> None:
    count = min(count, tau)
    turns = FragmentTurns(tau, count, pattern)
    found = [turns.turn_after(steps) for steps in range(tau, 2 * tau)]
    assert [number for number in found if number is not None] == [count - 1, *range(count - 1)]
    assert [turns.turn_after(steps) for steps in range(2 * tau, 3 * tau)] == found
    at = [step for step, number in enumerate(found) if number is not None] + [tau]
    assert min(second - first for first, second in itertools.pairwise(at)) == turns.distance
    rows = FlatVector([torch.zeros(2, numel)], shards=shards)
    sizes = []
    for number in range(count):
        part = turns.cut(rows, number)
        for tensor in part.tensors:
            tensor.add_(1.0)
        sizes.append(part.numel // 2)
    assert (rows.tensors[0] == 1.0).all()
    stretches = 8 if pattern is FragmentPattern.strided else 1
    assert max(sizes) - min(sizes) <= stretches * shards


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["bf16", "fp16", "int8", "int4", "sign", "top_k"]),
    st.integers(2, 5),
    st.integers(1, 200),
    st.integers(0, 2**16),
)
def test_what_was_averaged_and_what_is_left_are_all_there_was(name: str, n: int, d: int, seed: int) -> None:
    codec = sgp_core.build_compression(name)
    assert codec is not None
    generator = torch.Generator().manual_seed(seed)
    residual, given, got = (torch.zeros(n, d, dtype=torch.float64) for _ in range(3))
    for step in range(6):
        difference = torch.randn(n, d, dtype=torch.float64, generator=generator)
        given += difference
        residual += difference
        mean, _ = average_coded(FlatVector([residual]), codec, step)
        assert (mean.tensors[0] == mean.tensors[0][0]).all()
        got += mean.tensors[0]
    assert (got.sum(0) + residual.sum(0) - given.sum(0)).abs().max() < 1e-9 * n


def _towards_targets(rule: Any, steps: int, n: int = 3, lr: float = 0.1) -> tuple[Tensor, Tensor]:
    targets = torch.arange(n * 40, dtype=torch.float64).view(n, 40).sin()
    topology = sgp_core.build_topology("complete", world_size=n)
    start = torch.zeros(n, 40, dtype=torch.float64)
    run = sgp_core.simulate(rule, topology, start, lambda z, step: z - targets, lr=lambda step: lr, steps=steps)
    return run.z, targets


@pytest.mark.parametrize("overlap", [0, OVERLAP])
@pytest.mark.parametrize("pattern", list(FragmentPattern))
def test_each_fragment_follows_nesterov_on_its_mean_displacement(overlap: int, pattern: FragmentPattern) -> None:
    """Gradients are linear, so the workers' mean follows from itself: step it, and torch's SGD for each fragment."""
    rule = make_rule(overlap=overlap, pattern=pattern)
    z, targets = _towards_targets(rule, 5 * TAU)
    kept = 0.5 if overlap else 0.0
    turns = FragmentTurns(TAU, FRAGMENTS, pattern)
    mean, goal = torch.zeros(40, dtype=torch.float64), targets.mean(0)
    parts = [torch.zeros(turns.cut(FlatVector([mean]), p).numel, dtype=torch.float64) for p in range(FRAGMENTS)]
    optimizers = []
    for part in parts:
        part.requires_grad_()
        optimizers.append(torch.optim.SGD([part], lr=0.7, momentum=0.9, nesterov=True))
    left: dict[int, Tensor] = {}

    def of(p: int) -> Tensor:
        return torch.cat(turns.cut(FlatVector([mean]), p).tensors)

    for done in range(1, 5 * TAU + 1):
        mean.sub_(mean - goal, alpha=0.1)
        if (p := turns.turn_after(done)) is not None:
            left[p] = of(p)
        if done > overlap and (p := turns.turn_after(done - overlap)) is not None:
            parts[p].grad = parts[p].detach() - left.pop(p)
            optimizers[p].step()
            landed = kept * of(p) + (1 - kept) * parts[p].detach()
            turns.cut(FlatVector([mean]), p).copy_(
                FlatVector(list(landed.split([t.numel() for t in turns.cut(FlatVector([mean]), p).tensors])))
            )
        assert (z[done].mean(0) - mean).abs().max() < 1e-13, done


@pytest.mark.parametrize("compression", ["none", "int4"])
def test_a_world_of_one_streams_too(compression: str) -> None:
    z, targets = _towards_targets(make_rule(compression=compression), 40 * TAU, n=1)
    assert (z[-1] - targets).abs().max() < 1e-3


@pytest.mark.parametrize(("compression", "apart"), [("none", 1e-3), ("int4", 0.02), ("top_k", 0.1)])
def test_with_error_feedback_coarse_codes_end_where_exact_averages_do(compression: str, apart: float) -> None:
    options = {"fraction": 0.5} if compression == "top_k" else {}
    rule = make_rule(tau=4, fragments=2, overlap=1, lr=0.5, momentum=0.0, compression=compression, **options)
    z, targets = _towards_targets(rule, 200)
    assert (z[-40:].mean((0, 1)) - targets.mean(0)).norm() < apart * targets.mean(0).norm()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fragments": 0}, "outer 'diloco': fragments must lie between 1 and tau=12"),
        ({"fragments": 13}, "outer 'diloco': fragments must lie between 1 and tau=12"),
        ({"overlap": 3}, r"overlap must lie between 0 and 2 steps.*\(tau=12, fragments=4\), not be 3"),
        ({"overlap": -1}, "overlap must lie between 0 and 2 steps"),
        ({"compression": "int44"}, "compression cannot be 'int44'.*int4"),
        ({"compression": "low_rank"}, "compression cannot be 'low_rank'"),
        ({"fraction": 0.1}, "fraction is of compression=top_k, not of none"),
        ({"compression": "top_k", "fraction": 0.0}, "fraction must be above 0"),
        ({"mix": 1.0}, r"mix must lie in \[0, 1\), or be null, not 1.0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make_rule(**options)


def test_push_sum_weights_cannot_be_averaged_in_fragments() -> None:
    with pytest.raises(ConfigurationError, match="use algorithm=local_sgd, a doubly stochastic topology"):
        make_rule("sgp").check(Irregular(4))
    make_rule("sgp", fragments=1, overlap=0).check(Irregular(4))


@pytest.mark.parametrize("speed", [1.0, 0.5])
def test_the_clock_hides_averages_behind_the_steps_they_travel_in(speed: float) -> None:
    """A whole average of 20 MB takes two or three steps of 100 ms, a fragment's less than one."""
    network = NetworkModel(bandwidth_mbit=1000.0, busy_speed=speed)
    computation = build_computation({"name": "constant", "step_ms": 100.0})
    assert computation is not None
    topology = sgp_core.build_topology("ring", world_size=4)
    took, sent = {}, set()
    for name, options in {
        "plain": {"fragments": 1, "overlap": 0},
        "in turns": {"overlap": 0},
        "streaming": {"overlap": 1},
        "too large": {"fragments": 1, "overlap": 1},
    }.items():
        rule = make_rule(**options)
        step = predict(network, computation, traffic_of(rule, topology, model_bytes=20_000_000), 4, steps=2 * TAU)
        took[name] = (step.step_s - 0.1) * TAU  # beside computation
        sent.add(round(step.wire_bytes))
    assert sent == {20_000_000 * 3 // 2 // TAU}
    whole, fragment = took["plain"], took["in turns"] / FRAGMENTS
    assert 0.2 < whole < 0.3
    assert fragment == pytest.approx(whole / FRAGMENTS, rel=0.01)
    lost = 1 - speed  # of the time in which messages travel and a worker computes
    assert took["streaming"] == pytest.approx(FRAGMENTS * fragment * lost, abs=1e-9)
    computing = min(whole, 0.1 / speed)
    assert took["too large"] == pytest.approx(whole - computing + computing * lost, abs=1e-9)


def test_the_clock_has_coded_averages_on_their_way_twice() -> None:
    network = NetworkModel(bandwidth_mbit=100.0)
    computation = build_computation({"name": "constant", "step_ms": 50.0})
    assert computation is not None
    topology = sgp_core.build_topology("ring", world_size=4)
    found = {}
    for overlap in (0, 1, 2):
        rule = make_rule(overlap=overlap, compression="int4")
        traffic = traffic_of(rule, topology, model_bytes=20_000_000)
        found[overlap] = predict(network, computation, traffic, 4, steps=2 * TAU)
        assert found[overlap].wire_bytes == pytest.approx(20_000_000 * 0.5625 / 4 * 1.5 / TAU, rel=1e-3)
    exposed = {overlap: (step.step_s - 0.05) * TAU / FRAGMENTS for overlap, step in found.items()}
    assert exposed[0] > exposed[1] > exposed[2]
    half = exposed[0] / 2
    assert 0.02 < half < 0.05
    assert exposed[1] == pytest.approx(half)  # the second half begins when the average is wanted
    assert exposed[2] == pytest.approx(0.0, abs=1e-9)
