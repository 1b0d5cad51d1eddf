"""Gossip on real gloo workers, in plain hand-written loops."""

from __future__ import annotations

import pytest
import torch

from tests.support.workers import run_workers
from tests.workers import features


@pytest.fixture(scope="module")
def ranks():
    return run_workers(4, features.everything)


@pytest.fixture(params=["p2p", "shared_memory", "hierarchical"])
def transported(ranks, request):
    """What does not depend on how models travel, by each transport."""
    return [rank[request.param] for rank in ranks]


def test_every_kind_of_parameter_reaches_the_exact_mean(transported):
    ranks = [rank["awkward"] for rank in transported]
    for name in ("conv.weight", "norm.bias", "encode.weight", "unused", "wide", "narrow"):
        mean = sum(result["before"][name].double() for result in ranks) / 4
        for result in ranks:
            assert result["after"][name].dtype == result["before"][name].dtype
            torch.testing.assert_close(result["after"][name].double(), mean, rtol=0, atol=1e-5)
    for rank, result in enumerate(ranks):
        for name, value in result["alike"].items():
            assert torch.equal(value, ranks[0]["alike"][name]), f"{name} did not start as rank 0's on rank {rank}"
        assert torch.equal(result["after"]["frozen"], torch.zeros(4))
        assert result["tied"]
        assert result["channels_last"]
        assert not result["unused_has_gradient"]


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_allreduce_equals_ddp(ranks, kind):
    assert max(rank[f"ddp {kind}"] for rank in ranks) <= 1e-6


def test_allreduce_with_accumulation_and_partly_used_parameters_equals_ddp(ranks):
    results = [rank["accumulation"] for rank in ranks]
    assert max(difference for difference, _ in results) <= 1e-14
    one_exchange = results[0][1] / 5
    assert one_exchange < 1.5 * 8 * (2 * 650 + 4) * 1.01, "micro-batches inside no_sync must not communicate"


def test_averaged_holds_the_mean_of_numerators_and_buffers_and_is_undone_bit_for_bit(transported):
    ranks = [rank["averaged"] for rank in transported]
    weights = [result["weight"] for result in ranks]
    assert abs(sum(weights) - 4) < 1e-12
    assert max(weights) > 1.05, "the graph must be irregular enough to need weights"
    for name, inside in ranks[0]["inside"].items():
        is_parameter = "running" not in name and "num_batches" not in name
        share = weights if is_parameter else [1.0] * 4
        mean = sum(w * result["own"][name] for w, result in zip(share, ranks, strict=True)) / 4
        torch.testing.assert_close(inside, mean.to(inside.dtype), rtol=1e-12, atol=1e-12)
    for result in ranks:
        assert all(torch.equal(result["own"][name], value) for name, value in result["after"].items())
        assert result["refused"]
        assert result["compact"], "averaged_state_dict() must be what averaged() shows"
        assert result["step"] == 5
        assert result["uncounted"]


def test_state_dict_resumes_bit_for_bit(transported):
    for rank in transported:
        assert set(rank["resumed"].values()) == {0.0}


COPIES_LATE = {"p2p": 3, "shared_memory": 3, "hierarchical": 4}
"""Outboxes and inboxes: of the one kind, of the other, of both."""


@pytest.mark.parametrize(("kind", "weight"), [("footprint", 0), ("footprint, ahead", 0), ("footprint, late", 8)])
def test_a_step_allocates_nothing_and_uses_one_group(transported, kind, weight):
    for result in (rank[kind] for rank in transported):
        copies = COPIES_LATE[result["transport"]] + 0.1 if weight else 2  # shared memory is counted in pages
        assert result["allocations"] == []
        assert result["groups"] == 1
        assert result["added"] <= copies * result["parameters"]
        assert result["sent_per_step"] == result["parameters"] + weight
        assert result["seconds"] > 0


def test_a_send_buffer_allocates_nothing_when_late_readers_make_it_the_next(transported):
    assert [rank["beside late readers"] for rank in transported] == [[]] * 4


def test_the_average_holds_what_is_in_flight_and_looking_changes_nothing(transported):
    ranks = [rank["in flight"] for rank in transported]
    for result in ranks:
        assert torch.equal(result["looked"], result["alone"])
        assert torch.equal(result["averages"][-1], result["average"])
        assert torch.equal(result["average"], ranks[0]["average"])
    assert abs(sum(result["weight"] for result in ranks) - 4) < 1e-12
    mean = sum(result["weight"] * result["looked"] for result in ranks) / 4
    torch.testing.assert_close(mean, ranks[0]["average"], rtol=0, atol=1e-12)


def test_mistakes_are_named(ranks):
    for said in (rank["mistakes"] for rank in ranks):
        assert "1 of 4 workers built a model" in said["different models"]
        assert "made for 2 workers, the group has 4" in said["wrong size"]
        assert "rows" in said["biased"]
        assert "not the model's" in said["foreign"]
        assert "no trainable parameters" in said["frozen"]
        assert "'weight'" in said["moved"] or "'bias'" in said["moved"]


def test_autocast_accumulation_and_clipping_train(ranks):
    before, after = (sum(losses) for losses in zip(*(rank["autocast"] for rank in ranks), strict=True))
    assert after < 0.9 * before
