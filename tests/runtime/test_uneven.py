"""``gossip.join()``: workers whose batches run out at different times."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import sgp_core
from tests.support.workers import run_workers
from tests.workers import uneven

STEPS = max(uneven.BATCHES)


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    """What each worker found."""
    return run_workers(uneven.WORKERS, uneven.everything)


def gradient(z: Tensor, step: int) -> Tensor:
    """Return the gradient of each worker, zero for those that have no batch left."""
    active = torch.tensor([step < batches for batches in uneven.BATCHES], dtype=z.dtype)
    return (z - uneven.targets()) * active.unsqueeze(1)


@pytest.mark.parametrize("case", uneven.CASES)
def test_a_worker_without_batches_takes_part_without_an_update_of_its_own(
    ranks: list[dict[str, Any]], case: str
) -> None:
    _, topology, options = uneven.CASES[case]
    expected = sgp_core.simulate(
        uneven.rule_of(case),
        sgp_core.build_topology(topology, world_size=uneven.WORKERS),
        torch.zeros(uneven.WORKERS, uneven.SIZE, dtype=torch.float64),
        gradient,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=uneven.RATE),
        steps=STEPS,
        pace=options.get("pace"),
    )
    for rank, found in enumerate(ranks):
        mine = found["uneven"][case]
        assert mine["step"] == STEPS
        torch.testing.assert_close(mine["z"], expected.z[-1][rank], rtol=0, atol=1e-12)
        assert abs(mine["w"] - float(expected.w[-1][rank])) < 1e-12


@pytest.mark.parametrize("case", ["sgp", "weights", "memory", "ahead", "in flight", "in backward"])
def test_both_sums_are_kept(ranks: list[dict[str, Any]], case: str) -> None:
    """The sum of numerators changes by the updates alone, which the simulator knows, and that of weights never."""
    weights = sum(found["uneven"][case]["weight"] for found in ranks)
    assert abs(weights - uneven.WORKERS) < 1e-12
    _, topology, _ = uneven.CASES[case]
    updates = torch.zeros(uneven.SIZE, dtype=torch.float64)

    def recorded(z: Tensor, step: int) -> Tensor:
        found = gradient(z, step)
        updates.sub_(found.sum(0), alpha=uneven.RATE)
        return found

    sgp_core.simulate(
        uneven.rule_of(case),
        sgp_core.build_topology(topology, world_size=uneven.WORKERS),
        torch.zeros(uneven.WORKERS, uneven.SIZE, dtype=torch.float64),
        recorded,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=uneven.RATE),
        steps=STEPS,
    )
    numerators = torch.stack([found["uneven"][case]["x"] for found in ranks]).sum(0)
    torch.testing.assert_close(numerators, updates, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("way", "size"), [("allreduce", 4), ("nodes", 2), ("whole nodes", 4)])
def test_replicas_that_average_gradients_stay_equal(ranks: list[dict[str, Any]], way: str, size: int) -> None:
    for first in range(0, uneven.WORKERS, size):
        one = ranks[first][way]
        assert one["moved"] > 0.1
        assert one["step"] == STEPS
        for other in (ranks[rank][way] for rank in range(first, first + size)):
            assert all(mine.equal(theirs) for mine, theirs in zip(one["model"], other["model"], strict=True))
            assert all(mine.equal(theirs) for mine, theirs in zip(one["momenta"], other["momenta"], strict=True))


def test_what_cannot_be_right_is_refused(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert found["refused"] == [
            "RuntimeError: averaged() inside gossip.join(): workers whose batches have run out do not come to it",
            "RuntimeError: gossip.join() is already active",
            "ConfigurationError: each worker of this algorithm may take as many steps as it likes; leave join() out",
        ]
