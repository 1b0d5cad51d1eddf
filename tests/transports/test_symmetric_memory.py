"""GPUs that write each other's memory: the protocol, between processes on CPUs that keep the promises of GPUs."""

from __future__ import annotations

import pytest
import torch

import sgp_core
from tests.support.workers import run_workers
from tests.workers import symmetric_memory
from tests.workers.agreement import Irregular, simulate_case

STEPS = 15
TOLERANCE = 1e-12


def _cases(n: int) -> list:
    regular = sgp_core.build_topology("one_peer_exponential", world_size=n)
    ring = sgp_core.build_topology("ring", world_size=n)
    irregular = Irregular(4) if n == 4 else sgp_core.build_topology("star", world_size=n, weights="uniform")
    sgp = sgp_core.build_algorithm("sgp")
    cases = [(sgp, regular, "sgd"), (sgp_core.build_algorithm("dpsgd"), ring, "adamw"), (sgp, irregular, "adamw")]
    return (
        cases[n == 5 :]
        + [
            (sgp_core.build_algorithm("sgp", overlap_steps=tau), graph, "sgd")
            for tau, graph in ((1, regular), (2, irregular), (2, ring))
        ][n == 5 :]
    )


@pytest.fixture(scope="module")
def found():
    return {n: run_workers(n, symmetric_memory.everything, symmetric_memory.LAYOUTS, _cases(n), STEPS) for n in (4, 5)}


@pytest.mark.parametrize("n", [4, 5])
def test_numbers_are_those_of_messages_bit_for_bit(found, n):
    for rank in found[n]:
        assert rank["differences"] == []


@pytest.mark.parametrize("n", [4, 5])
def test_training_agrees_with_the_simulator_and_goes_on_from_its_state(found, n):
    for number, case in enumerate(_cases(n)):
        trajectory = simulate_case(*case, steps=STEPS)
        results = [rank["trained"][number] for rank in found[n]]
        assert {result["transport"] for result in results} == {"symmetric_memory"}
        z, w = (torch.stack([result[name] for result in results], dim=1) for name in ("z", "w"))
        assert (z - trajectory.z).abs().max() <= TOLERANCE, case
        assert (w - trajectory.w).abs().max() <= TOLERANCE, case
        assert results[0]["mass"] == pytest.approx(n, abs=1e-12), case


def test_a_world_of_one_opens_nothing():
    case = (sgp_core.build_algorithm("osgp"), sgp_core.build_topology("ring", world_size=1), "sgd")
    (rank,) = run_workers(1, symmetric_memory.train, [case], 5)
    assert rank[0]["transport"] is None
    assert torch.equal(rank[0]["z"], simulate_case(*case, steps=5).z[:, 0])


def test_memory_is_opened_once(found):
    for rank in found[4]:
        assert rank["memory"]["tau=0"] == 1, "waves of any in-degree fit into one room"
        assert rank["memory"]["ahead"] <= 2, "one inbox, made larger once there are several in-peers"
        assert rank["memory"]["tau=1"] <= 4, "two inboxes, each made larger at most once"


def test_messages_nobody_made_room_for_are_refused(found):
    for rank in found[4]:
        assert rank["too deep"] == "more messages are in flight than an algorithm with steps_in_flight=0 has"


def test_workers_without_gpus_are_told_why_not(found):
    for rank in found[4]:
        assert rank["asked"] == (
            "transport 'symmetric_memory' is not available here: the parameters are on cpu, not on one NVIDIA GPU;"
            " use transport=p2p"
        )
