"""Node groups on real gloo workers: equal to the two-level algorithm in the simulator, at 1/m of its messages."""

from __future__ import annotations

import math

import pytest
import torch

import sgp_core
from sgp_core.tensors.layout import TensorLayout
from tests.support.workers import run_workers
from tests.workers import nodes
from tests.workers.agreement import Irregular, make_algorithm, make_model, simulate_case

STEPS = 16
PARAMETERS = 64 * 16 + 16 + 16 * 10 + 10
"""Of the model that the cases train, an even number."""


@pytest.fixture(scope="module")
def ranks():
    return run_workers(4, nodes.everything, nodes.make_cases(), STEPS)


def _check(case, results, **options):
    """Every worker of a node holds what the simulator's node holds, bit for bit what its fellows hold."""
    node_size = case[3]
    trajectory = simulate_case(*case[:3], STEPS, node_size=node_size, **options)
    for rank, result in enumerate(results):
        node = rank // node_size
        assert (result["z"] - trajectory.z[:, node]).abs().max() <= 1e-12, case
        assert (result["w"] - trajectory.w[:, node]).abs().max() <= 1e-12, case
        if case[1].world_size > 1:
            assert abs(result["distance"] - trajectory.consensus_distance[-1]) <= 1e-9, case
        assert torch.equal(result["z"], results[node * node_size]["z"]), case
    return trajectory


@pytest.mark.parametrize("number", range(len(nodes.make_cases())))
def test_nodes_agree_with_the_simulator(ranks, number):
    _check(nodes.make_cases()[number], [rank["cases"][number] for rank in ranks])


def test_eight_workers_and_groups_of_some_workers_agree_with_the_simulator():
    irregular = Irregular(4)
    cases = [
        (make_algorithm("sgp"), irregular, "adamw", 2),
        (make_algorithm("osgp", "slowmo"), irregular, "sgd", 2),
    ]
    pace = sgp_core.build_pace("target", distance=0.01, every=4)
    results = run_workers(8, nodes.in_a_world_of_eight, cases, STEPS, pace)
    for number, case in enumerate(cases):
        _check(case, [result["cases"][number] for result in results])
    pair = sgp_core.build_topology("one_peer_exponential", world_size=2)
    _check((cases[0][0], pair, "sgd", 2), [result["half"] for result in results if result["half"]])
    paced = [result["paced"] for result in results]
    step, estimate = _check(cases[0], paced, pace=pace).estimates[-1]
    assert len({(result["estimate"], *result["numbers"].values()) for result in paced}) == 1
    assert paced[0]["estimate"] == (step, pytest.approx(estimate, rel=1e-9))
    assert paced[0]["numbers"]["rate"] != 1.0


def test_a_worker_sends_its_share_of_the_model_and_no_more(ranks):
    model = PARAMETERS * 8
    for rank in ranks:
        sgp, _, allreduce, *_, alone, _ = rank["cases"]
        flags = 4 * 8
        assert sgp["sent"] == STEPS * model / 2
        assert allreduce["sent"] == STEPS * (model / 2 + flags)
        assert alone["sent"] == 0
        assert sgp["sent_inside"] == STEPS * 3 * model / 2  # gradients as an AllReduce, then the model
        assert alone["sent_inside"] == STEPS * 3 * 3 * math.ceil(PARAMETERS / 4) * 8


@pytest.mark.parametrize("case", [0, 1], ids=["synchronous", "in flight"])
def test_averaged_is_the_mean_over_nodes_and_over_all_buffers_and_is_undone_bit_for_bit(ranks, case):
    results = [rank["averaged"][case] for rank in ranks]
    for name in results[0]["own"]:
        own = [result["own"][name].double() for result in results]
        inside = results[0]["inside"][name].double()
        is_buffer = "running" in name or "num_batches" in name
        assert all(torch.equal(result["start"][name], results[0]["start"][name]) for result in results), name
        assert all(torch.equal(result["inside"][name], results[0]["inside"][name]) for result in results), name
        assert all(torch.equal(result["after"][name], result["own"][name]) for result in results), name
        assert is_buffer or (torch.equal(own[0], own[1]) and torch.equal(own[2], own[3])), name
        if is_buffer or case == 0:
            torch.testing.assert_close(inside, sum(own) / 4, rtol=1e-6, atol=1e-6)
        else:
            finished = sum(result["weight"] * result["finished"][name].double() for result in results)
            torch.testing.assert_close(inside, finished / 4, rtol=1e-6, atol=1e-6)
        if "never" in name:
            assert torch.equal(own[0], torch.ones(3, dtype=torch.float64))
    assert not torch.equal(results[0]["own"]["sometimes"], torch.ones(5)), "rank 0's model moves by rank 3's gradient"
    assert len({result["distance"] for result in results}) == 1


def test_state_dict_resumes_bit_for_bit(ranks):
    for rank in ranks:
        assert rank["resumed"] == [0.0, 0.0]


@pytest.mark.parametrize("case", [0, 1])
def test_an_optimizer_on_shards_equals_one_on_the_whole_model_with_half_the_state_and_fewer_messages(ranks, case):
    for result in (rank["sharded"][case] for rank in ranks):
        assert result["model"] <= 1e-12
        assert result["norm"] <= 1e-12
        whole, shard = result["state"]
        assert shard <= 0.51 * whole
        (outer, inner), (sharded_outer, sharded_inner) = result["sent"]
        assert sharded_outer < outer if case == 0 else sharded_outer == outer
        assert sharded_inner == pytest.approx(inner * 3 / 5, rel=0.02), "two averages a step, and one gather"


@pytest.mark.parametrize("case", [0, 1])
def test_fsdp2_inside_the_node_equals_unsharded_workers(ranks, case):
    for result in (rank["fsdp"][case] for rank in ranks):
        assert result["model"] <= 1e-12
        assert result["average"] <= 1e-12
        assert result["averaged_state_dict"] <= 1e-12
        assert result["distance"] <= 1e-12
        ours, theirs = result["sent"]
        assert theirs == pytest.approx(ours, rel=0.01) or case == 0, "FSDP2 cuts each parameter, by rows"
        for apart in result["told"]:
            told = [pair for pair in apart if pair[0] > 1e-9]  # some steps end with the exact mean
            assert bool(told) == (case == 0)
            assert all(estimate == pytest.approx(exact, rel=0.15) for exact, estimate in told)


@pytest.mark.parametrize("number", range(len(nodes.compressed_cases())))
def test_compressed_shards_agree_with_the_simulator(ranks, number):
    codec, tau = nodes.compressed_cases()[number]
    results = [rank["compressed"][number] for rank in ranks]
    pair = sgp_core.build_topology("one_peer_exponential", world_size=2)
    shapes = [tuple(parameter.shape) for parameter in make_model().parameters()][::-1]
    options = {"compression": codec, "shapes": shapes, "node_size": 2}
    run = simulate_case(sgp_core.build_algorithm("sgp", overlap_steps=tau), pair, "sgd", STEPS, **options)
    whole = TensorLayout.packed(shapes, "float64")
    for rank, result in enumerate(results):
        assert (result["z"] - run.z[:, rank // 2]).abs().max() <= 1e-12, codec
        assert (result["w"] - run.w[:, rank // 2]).abs().max() <= 1e-12, codec
        assert torch.equal(result["z"], results[rank // 2 * 2]["z"]), codec
        begin = rank % 2 * PARAMETERS // 2
        shard = whole.between(begin, begin + PARAMETERS // 2)
        assert result["sent"] == (STEPS - (tau == 1)) * (codec.nbytes([shard]) + (8 if tau > 1 else 0)), codec
    plain = simulate_case(sgp_core.build_algorithm("sgp", overlap_steps=tau), pair, "sgd", STEPS, node_size=2)
    assert (run.z - plain.z).abs().max() > 1e-9, "something is left out"


def test_compressed_shards_of_fsdp2_reach_the_mean_and_resume_bit_for_bit(ranks):
    for rank in ranks:
        for case in rank["compressed_fsdp"]:
            assert case["resumed"]
            assert case["from_mean"] <= 1e-3
            assert case["sent"] == case["expected"]


def test_a_shard_that_changes_while_it_is_being_sent_is_named(ranks):
    for said, steps in (rank["changed shard"] for rank in ranks):
        assert said.startswith("parameter '0.bias' was changed between two steps, while it was being sent; change it")
        assert steps == 4


def test_mistakes_are_named(ranks):
    for said in (rank["mistakes"] for rank in ranks):
        assert "node_size=3: the number of workers, 4, must be a multiple" in said["size"]
        assert "node_size=0" in said["zero"]
        assert "made for 4 nodes, the group has 2" in said["topology"]
        assert "sharded over ranks [0, 1, 2, 3], but the node is ranks" in said["mesh"]
        assert "mesh of two axes" in said["gradients"]
        assert "looks at more than one element" in said["Adafactor"]
        assert "has stepped already" in said["SGD"]
