"""Every transport carries models that leave ahead: the numbers computed by hand, to the bit, in memory of one inbox."""

from __future__ import annotations

import pytest

from sgp_core.transports.registry import TRANSPORTS, find_transport
from tests.support.workers import run_workers
from tests.workers import combinations

ON_CPUS = [name for name in TRANSPORTS.names() if "cpu" in find_transport(name).devices]
CASES = ["in place", "in place, weights", "apart", "apart, weights"]
VICTIM = 1


@pytest.fixture(scope="module", params=[*ON_CPUS, "symmetric_memory"])  # that between processes that stand in for GPUs
def ranks(request):
    return run_workers(combinations.WORKERS, combinations.everything, request.param, VICTIM, killed=[VICTIM])


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_what_it_is_by_hand_to_the_bit(ranks, case):
    assert [found["bits"][case] for found in ranks[0]["found"]] == [[]] * combinations.WORKERS


def test_a_transport_of_a_users_own_need_not_send_ahead(ranks):
    for found in ranks[0]["found"]:
        assert found["plain"] in ({}, {case: [] for case in CASES})


def test_a_worker_that_is_lost_is_named(ranks):
    assert len(ranks) == combinations.WORKERS - 1
    lost = [rank["lost"] for rank in ranks]
    for error in lost:
        assert error["rank"] == error["me"]
        assert error["step"] >= 1
        assert error["peers"], "a name, be it of one that ended because of the first"
    assert any(error["peers"] == (VICTIM,) for error in lost)


def test_one_inbox_is_all_the_memory_that_messages_need():
    for rank in run_workers(2, combinations.footprints):
        for case, found in rank.items():
            assert found["allocations"] == [], case
            assert max(found["added"].values()) <= 1.1 * found["parameters"], case
