"""Rules for workers whose data differ in real workers: resumed, inside backward, between nodes; and what they send."""

from __future__ import annotations

import pytest
import torch

import sgp_core
from sgp_core.errors import ConfigurationError
from tests.support.workers import run_workers
from tests.workers import heterogeneous
from tests.workers.agreement import Irregular, simulate_case
from tests.workers.heterogeneous import STEPS, cases, of_nodes, work

M = 8 * (64 * 16 + 16 + 16 * 10 + 10)
"""Bytes of the model."""


@pytest.fixture(scope="module")
def workers():
    return run_workers(4, work)


@pytest.mark.parametrize("name", cases())
def test_a_resumed_run_and_steps_inside_backward_give_the_same_bits(workers, name):
    for rank in workers:
        ways = rank["ways"][name]
        for way in ways.values():
            assert torch.equal(way["z"], ways["after"]["z"])
            assert way["w"] == ways["after"]["w"]
            assert way["distance"] == ways["after"]["distance"] > 0 or name in ("relaysgd", "noloco")
    assert len(ways) == (2 if name.startswith("gradient_tracking") or "awc" in name else 3)


@pytest.mark.parametrize("name", of_nodes())
def test_between_nodes_they_agree_with_the_simulator(workers, name):
    run = simulate_case(*of_nodes()[name], steps=STEPS, node_size=2)
    for rank, found in enumerate(workers):
        assert (found["nodes"][name]["z"] - run.z[:, rank // 2]).abs().max() <= 1e-12


def test_what_is_sent(workers):
    def sent(name):
        return [rank["ways"][name]["after"]["sent"] for rank in workers]

    degrees = [2, 2, 1, 1]  # of the tree
    assert sent("relaysgd") == [STEPS * degree * M for degree in degrees]
    assert sent("d2") == [STEPS * degree * M + 2 * M * 3 // 2 for degree in degrees]  # and two exact averages
    assert sent("qg_dsgdm") == [STEPS * M] * 4
    assert sent("decentlam") == [STEPS * 2 * M] * 4
    assert sent("noloco") == [STEPS // 4 * M] * 4
    irregular = [STEPS // 2 * (3 + 1), *[STEPS // 2 * (1 + 1)] * 3]  # messages of 3, 1, 1, 1 and a ring in turn
    assert sent("gradient_tracking, awc") == [(2 * STEPS - 1) * M] * 4  # models are alike before the first
    assert sent("gradient_tracking") == [messages * (2 * M + 8) for messages in irregular]


def test_parts_of_a_batch_and_given_up_steps_leave_the_tracker_right(workers):
    for rank in workers:
        whole, in_parts = rank["accumulated"]
        torch.testing.assert_close(whole, in_parts, rtol=0, atol=1e-13)


def test_a_parameter_that_one_worker_uses_is_stepped_on_by_those_who_hear_of_it(workers):
    real = torch.stack([rank["rarely used"] for rank in workers], dim=1)
    used = torch.tensor([[1.0], [0.0], [0.0], [0.0]], dtype=torch.float64)
    run = sgp_core.simulate(
        sgp_core.build_algorithm("gradient_tracking"),
        Irregular(4),
        torch.zeros(4, 3, dtype=torch.float64),
        lambda z, step: used * (z - 1.0),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1),
        steps=8,
    )
    torch.testing.assert_close(real[:, 0], run.z[1:, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(real, run.z[1:], rtol=0, atol=1e-12)


def test_gradient_tracking_cannot_step_inside_backward():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rule = sgp_core.build_algorithm("gradient_tracking")
    with pytest.raises(ConfigurationError, match="changes gradients before any step"):
        sgp_core.Gossip(model, optimizer, algorithm=rule, step_in_backward=True)


def test_a_worker_alone_takes_the_steps_of_its_optimizer():
    for name in heterogeneous.cases():
        if name == "noloco":
            continue
        model = torch.nn.Linear(3, 1, bias=False)
        alone = torch.nn.Linear(3, 1, bias=False)
        alone.load_state_dict(model.state_dict())
        options = {"beta": 0.0} if name in ("qg_dsgdm", "decentlam") else {}
        options |= {"order": "awc"} if "awc" in name else {}
        rule = sgp_core.build_algorithm(name.partition(",")[0], **options)
        optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, alone)]
        sgp_core.Gossip(model, optimizers[0], algorithm=rule)
        for step in range(3):
            for each, optimizer in zip((model, alone), optimizers, strict=True):
                each(torch.full((2, 3), step + 1.0)).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
        torch.testing.assert_close(model.weight, alone.weight, rtol=0, atol=1e-6)
