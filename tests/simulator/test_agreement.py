"""Simulator and processes run the same rule objects: they must agree number by number."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import sgp_core
from sgp_core.algorithms import ALGORITHMS, OUTERS
from tests.support.workers import run_workers
from tests.workers.agreement import Irregular, make_algorithm, simulate_case, train_cases

TOLERANCE = 1e-12
ON_TREES = {"d2", "decentlam", "relaysgd"}
OUTERS_OF = {
    **dict.fromkeys(("d2", "decentlam", "gossip_pga", "relaysgd"), ()),
    **dict.fromkeys(("gradient_tracking", "qg_dsgdm"), ("slowmo",)),
    **dict.fromkeys(("allreduce", "dpsgd", "osgp"), ("slowmo", "bmuf", "diloco")),
}
"""What an outer does around one algorithm it does around another; those not named here run with each."""


def _cases() -> list:
    regular = sgp_core.build_topology("one_peer_exponential", world_size=4)
    tree = sgp_core.build_topology("spanning_tree", world_size=4)
    cases = [
        (
            make_algorithm(name, outer),
            tree if name in ON_TREES else regular,
            "plain" if ALGORITHMS.get(name).traits.own_momentum else "sgd",
        )
        for name in ALGORITHMS.names()
        if not ALGORITHMS.get(name).traits.one_sided  # those agree by replay, see test_asynchronous.py
        for outer in (None, *OUTERS_OF.get(name, OUTERS.names()))
    ]
    irregular = Irregular(4)
    biased = [("sgp", None), ("sgp", "slowmo"), ("sgp", "diloco")]
    cases += [(make_algorithm(name, outer), irregular, kind) for name, outer in biased for kind in ("sgd", "adamw")]
    cases += [
        (sgp_core.build_algorithm("sgp", overlap_steps=steps), graph, "sgd")
        for steps in (1, 2, 4)
        for graph in (regular, irregular)
    ]
    cases += [
        (make_algorithm("sgp", "slowmo", buffers="average"), regular, "adamw"),
        (make_algorithm("sgp", "slowmo", buffers="maintain", exact_average=False), regular, "sgd"),
        (make_algorithm("local_sgd", "bmuf", nesterov=True), regular, "sgd"),
        (make_algorithm("local_sgd", "noloco"), regular, "adamw"),
        (make_algorithm("gradient_tracking"), irregular, "sgd"),
        (make_algorithm("gossip_pga"), irregular, "sgd"),
        (make_algorithm("dpsgd"), sgp_core.build_topology("one_peer_exponential", world_size=4, peers=3), "adamw"),
    ]
    return cases


@pytest.fixture(scope="module")
def in_shared_memory() -> list[list[dict[str, Any]]]:
    """What each worker found in each case."""
    return run_workers(4, train_cases, _cases())


def test_every_algorithm_with_and_without_each_outer_agrees_with_the_simulator(in_shared_memory):
    ranks = in_shared_memory
    assert {result["transport"] for rank in ranks for result in rank} == {"shared_memory"}
    for number, case in enumerate(_cases()):
        trajectory = simulate_case(*case)
        real = torch.stack([ranks[rank][number]["z"] for rank in range(4)], dim=1)
        weights = torch.stack([ranks[rank][number]["w"] for rank in range(4)], dim=1)
        assert (real - trajectory.z).abs().max() <= TOLERANCE, case
        assert (weights - trajectory.w).abs().max() <= TOLERANCE, case
        assert abs(ranks[0][number]["distance"] - trajectory.consensus_distance[-1]) <= 1e-9, case


def test_messages_give_the_same_numbers_as_shared_memory_bit_for_bit(in_shared_memory):
    steps = 13
    chosen = [number for number, case in enumerate(_cases()) if case[0].leaves_one(case[1]) or case[2] == "adamw"]
    cases = [_cases()[number] for number in chosen]
    for mine, theirs in zip(in_shared_memory, run_workers(4, train_cases, cases, steps, "p2p"), strict=True):
        for number, case, other in zip(chosen, cases, theirs, strict=True):
            one = mine[number]
            assert (one["transport"], other["transport"]) == ("shared_memory", "p2p")
            assert torch.equal(one["z"][: steps + 1], other["z"]), case
            assert torch.equal(one["w"][: steps + 1], other["w"]), case
