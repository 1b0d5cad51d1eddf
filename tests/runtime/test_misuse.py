"""Habits of DistributedDataParallel, and choices written by hand: right, or refused in one sentence."""

from __future__ import annotations

import gc
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import sgp_core
from sgp_core.errors import ConfigurationError
from tests.support.workers import run_workers
from tests.workers import misuse

AVERAGES = "; it averages the gradients of all workers in every backward, so that nothing is left to gossip"


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    """What each worker was told."""
    return run_workers(4, misuse.in_one_group)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("wrapped", f"the model is wrapped in DistributedDataParallel: give Gossip model.module{AVERAGES}"),
        ("wrapped_inside", f"the model is wrapped in DistributedDataParallel: give Gossip model.module{AVERAGES}"),
        ("wrapped_later", "the model was wrapped in DistributedDataParallel after Gossip was built: leave it out"),
        ("other_rules", "3 of 4 workers were given another algorithm than rank 0; give all the same"),
        ("other_graphs", "3 of 4 workers were given another topology than rank 0; give all the same"),
        ("other_codecs", "1 of 4 workers were given another compression than rank 0; give all the same"),
    ],
)
def test_every_worker_is_told_what_cannot_be_right(ranks: list[Any], case: str, sentence: str) -> None:
    for said, _ in ranks:
        assert said[case].startswith(sentence)


def test_a_process_outside_of_the_group_is_told_so(ranks: list[Any]) -> None:
    outside = [said.get("outside") for said, _ in ranks]
    assert outside[:2] == [None, None]
    assert outside[3] == ("this process, rank 3, is not in process_group; build Gossip on the group's members only")


def test_nodes_may_average_gradients_inside_and_names_and_numbers_are_choices(ranks: list[Any]) -> None:
    for rank, (said, _) in enumerate(ranks):
        assert re.match(
            rf"Gossip\(rank {rank // 2} of 2, SGP\(overlap_steps=0, .*\) on Ring\(.*\), p2p, step 1\)", said["repr"]
        )


def test_a_plain_scaler_is_warned_of_once(ranks: list[Any]) -> None:
    for _, warned in ranks:
        assert len(warned) == 1
        assert "use ShardedGradScaler of torch.distributed.fsdp.sharded_grad_scaler" in warned[0]


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"algorithm": "spg"}, "unknown algorithm 'spg'; did you mean 'sgp'?"),
        ({"algorithm": "slowmo"}, "'slowmo' is an outer, which wraps an algorithm: build_outer('slowmo', build_algor"),
        (
            {"algorithm": sgp_core.Algorithm},
            "algorithm must be a name or what build_algorithm returns, such as build_al",
        ),
        (
            {"compression": 8},
            "compression must be a name or what build_compression returns, such as build_compression(",
        ),
        ({"pace": 0.5}, "pace must be a name or what build_pace returns, such as build_pace('every', steps=4), not"),
        ({"patience_s": 0}, "patience_s must be more than 0 seconds, not 0; math.inf never looks"),
        ({"topology": 4}, "a topology is a name, a class or a networkx graph, not 4"),
    ],
)
def test_a_choice_that_is_none_is_told_what_is(choices: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match="^" + re.escape(sentence)):
        misuse.attach(nn.Linear(3, 2), **choices)


def test_names_and_numbers_stand_for_what_the_build_functions_return() -> None:
    gossip = misuse.attach(nn.Linear(3, 2), compression="int8", pace=4)
    assert gossip.algorithm == sgp_core.build_algorithm("sgp")
    assert gossip.topology == sgp_core.build_topology("ring", world_size=1)
    assert repr(gossip).startswith("Gossip(alone, SGP(overlap_steps=0, order=")


def test_a_second_gossip_on_a_model_is_refused_until_the_first_is_closed_or_forgotten() -> None:
    model = nn.Linear(3, 2)
    gossip = misuse.attach(model)
    with pytest.raises(
        ConfigurationError, match=r"^another Gossip acts on this model already; call its close\(\) first$"
    ):
        misuse.attach(model)
    gossip.close()
    again = misuse.attach(model)
    del gossip, again
    misuse.attach(model)


def test_an_outer_is_no_algorithm_and_the_other_way_round() -> None:
    with pytest.raises(ConfigurationError, match="'slowmo' is an outer"):
        sgp_core.build_algorithm("slowmo")
    with pytest.raises(ConfigurationError, match="'sgp' is an algorithm, not an outer"):
        sgp_core.build_outer("sgp", sgp_core.build_algorithm("sgp"))


def test_the_wrapper_of_the_first_fsdp_is_refused() -> None:
    kind = type("FullyShardedDataParallel", (nn.Linear,), {})
    with pytest.raises(ConfigurationError, match="FullyShardedDataParallel, which shards it over all workers"):
        misuse.attach(nn.Sequential(kind(3, 2)))


def test_steps_of_one_worker_are_counted_in_its_description() -> None:
    model = nn.Linear(3, 2)
    gossip = misuse.attach(model)
    misuse.step(model, gossip)
    assert repr(gossip).endswith(", step 1)")
    assert torch.isfinite(model.weight).all()


def test_a_forgotten_gossip_may_be_collected_in_the_middle_of_a_step_of_another() -> None:
    model = nn.Linear(3, 2)
    gossip = misuse.attach(model)
    gc.disable()
    collects = register_optimizer_step_pre_hook(lambda *_: gc.collect() and None)
    try:
        misuse.attach(nn.Linear(3, 2))
        misuse.step(model, gossip)
    finally:
        collects.remove()
        gc.enable()
    assert gossip.step == 1
