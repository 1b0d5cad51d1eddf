"""Steps inside backward: the same numbers, earlier messages."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import sgp_core
from sgp_core.errors import ConfigurationError
from tests.support.workers import run_workers
from tests.workers.agreement import Irregular, make_algorithm
from tests.workers.backward_steps import at_the_side, both_ways

LATE = sgp_core.build_algorithm("osgp", order="adapt_then_combine")
"""Its messages are added a step late."""


def _cases() -> list[Any]:
    one_peer = sgp_core.build_topology("one_peer_exponential", world_size=4)
    ring = sgp_core.build_topology("ring", world_size=4)
    return [
        (make_algorithm("sgp"), one_peer, "sgd", {}),
        (make_algorithm("sgp"), Irregular(4), "adamw", {}),
        (make_algorithm("dpsgd"), ring, "muon", {}),
        (sgp_core.build_algorithm("sgp", overlap_steps=2), Irregular(4), "sgd", {}),
        (sgp_core.build_outer("slowmo", LATE, tau=4), ring, "adamw", {}),
        (make_algorithm("local_sgd", "slowmo"), one_peer, "sgd", {}),
        (make_algorithm("sgp"), ring, "sgd", {"compression": sgp_core.build_compression("int8")}),
        (LATE, Irregular(4), "sgd", {"compression": sgp_core.build_compression("int8")}),
    ]


def test_the_numbers_are_those_of_steps_after_backward_bit_for_bit():
    cases = _cases()
    for rank in run_workers(4, both_ways, cases, 10):
        for case, ways in zip(cases, rank, strict=True):
            first = ways.pop("after, p2p")
            for way, found in ways.items():
                assert torch.equal(found["z"], first["z"]), (case, way)
                assert found["w"] == first["w"], (case, way)
                assert found["sent"] == first["sent"], (case, way)
                assert found["distance"] == first["distance"], (case, way)


@pytest.fixture(scope="module")
def at_side() -> list[dict[str, Any]]:
    paces = [sgp_core.build_pace("every", steps=3, warmup_steps=5), sgp_core.build_pace("target", every=4)]
    return run_workers(4, at_the_side, paces)


def test_tied_frozen_unused_and_mixed_parameters(at_side):
    for rank in at_side:
        after, inside = rank["awkward"]
        assert all(torch.equal(a, b) for a, b in zip(after, inside, strict=True))


def test_gradients_are_accumulated_and_clipped_as_one(at_side):
    for rank in at_side:
        after, inside = rank["clipped"]
        assert torch.equal(after, inside)


def test_at_any_pace(at_side):
    for rank in at_side:
        for ways in rank["paced"]:
            assert torch.equal(ways["after"]["z"], ways["inside"]["z"])


def test_all_workers_skip_a_step_in_which_one_overflows(at_side):
    for rank in at_side:
        assert rank["scaled"] == [(1, 4.0), (1, 2.0), (2, 2.0)]


def test_parts_leave_while_backward_goes_on(at_side):
    for rank in at_side:
        for found in rank["leaving"]:
            # the first part is the last layer's bias and then its weight, which is larger than a quarter of a layer
            assert found["left"] == [0, 1, 2, 3, 4, 5, 6, 7]
            assert found["posted"] == 8


def test_memory_is_an_inbox_and_what_overlap_needs(at_side):
    for rank in at_side:
        synchronous, overlapped = (found["added"] / found["parameters"] for found in rank["leaving"])
        assert synchronous <= 2.0
        assert overlapped <= 3.1


def _alone(optimizer: str = "SGD", **options: Any) -> tuple[nn.Module, torch.optim.Optimizer, sgp_core.Gossip]:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    made = getattr(torch.optim, optimizer)(model.parameters(), lr=0.1)
    algorithm = options.pop("algorithm", None) or sgp_core.build_algorithm("sgp")
    return model, made, sgp_core.Gossip(model, made, algorithm=algorithm, step_in_backward=True, **options)


def test_a_second_backward_is_refused_unless_the_first_only_accumulates():
    model, optimizer, gossip = _alone()
    model(torch.ones(1, 3)).backward()
    with pytest.raises(RuntimeError, match=r"inside gossip.no_sync\(\)"):
        model(torch.ones(1, 3)).backward()
    optimizer.step()
    with gossip.no_sync():
        model(torch.ones(1, 3)).backward()
    model(torch.ones(1, 3)).backward()
    optimizer.step()
    assert gossip.step == 2


def test_a_step_without_backward_is_one():
    model, optimizer, gossip = _alone()
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer.step()
    assert gossip.step == 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_no_step_inside_averaged():
    model, _, gossip = _alone()
    with gossip.averaged(), pytest.raises(RuntimeError, match="for evaluation only"):
        model(torch.ones(1, 3)).backward()


def test_an_optimizer_that_counts_per_group_is_refused():
    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                group["count"] = group.get("count", 0) + 1
            return super().step(closure)

    model = nn.Linear(3, 1)
    optimizer = Counting(model.parameters(), lr=0.1)
    sgp_core.Gossip(model, optimizer, algorithm=sgp_core.build_algorithm("sgp"), step_in_backward=True)
    with pytest.raises(RuntimeError, match="Counting counts its steps per group"):
        model(torch.ones(1, 3)).backward()


def test_clipping_after_backward_is_too_late():
    _, _, gossip = _alone()
    with pytest.raises(RuntimeError, match="max_norm"):
        gossip.clip_grad_norm_(1.0)


@pytest.mark.parametrize(("name", "said"), [("allreduce", "changes gradients"), ("asgp", "exchange whole models")])
def test_algorithms_that_cannot(name, said):
    with pytest.raises(ConfigurationError, match=said):
        _alone(algorithm=sgp_core.build_algorithm(name))


def test_a_rule_that_waits_too_early_is_told():
    class Waiting(sgp_core.build_algorithm("dpsgd").__class__):  # type: ignore[misc]
        def after_step(self, worker: Any) -> None:
            worker.network.mix(worker.params, worker.step)

    model, *_ = _alone(algorithm=Waiting())
    with pytest.raises(RuntimeError, match=r"waits for others in receive\(\)"):
        model(torch.ones(1, 3)).backward()


def test_a_model_compiled_as_a_whole_is_warned_of_and_blocks_are_not():
    def make(model: nn.Module) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        sgp_core.Gossip(model, optimizer, algorithm=sgp_core.build_algorithm("sgp"), step_in_backward=True)

    with pytest.warns(UserWarning, match=r"compile its blocks"):
        make(torch.compile(nn.Linear(2, 1), backend="eager"))
    whole = nn.Linear(2, 1)
    whole.compile(backend="eager")
    with pytest.warns(UserWarning, match=r"compile its blocks"):
        make(whole)
    blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    for block in blocks:
        block.compile(backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(blocks)
