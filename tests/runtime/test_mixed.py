"""Workers of several hosts, some of one: the numbers of messages, whatever way a model goes."""

from __future__ import annotations

import pytest

import sgp_core
from tests.runtime import hosts, sharing
from tests.runtime.agreement import Irregular
from tests.support.workers import run_workers

STEPS = 200


def _cases(world_size: int) -> list:
    ring, exponential = (sgp_core.build_topology(n, world_size=world_size) for n in ("ring", "one_peer_exponential"))
    return [
        (sgp_core.build_algorithm("sgp"), Irregular(world_size)),
        (sgp_core.build_algorithm("dpsgd"), ring),
        (sgp_core.build_algorithm("sgp", overlap_steps=1), Irregular(world_size)),
        (sgp_core.build_algorithm("sgp", overlap_steps=2), exponential),
    ]


@pytest.fixture(scope="module", params=["aabb", "abbca"])
def ranks(request):
    n = len(request.param)
    cases, steps = (_cases(n), STEPS) if n == 4 else (_cases(n)[::2], 20)
    return run_workers(
        n, hosts.beside_each_other, request.param, sharing.LAYOUTS[1:], [*sharing.graphs(n), Irregular(n)], cases, steps
    )


def test_numbers_are_those_of_messages_bit_for_bit(ranks):
    for rank in ranks:
        assert rank["bits"] == []
        assert rank["trained"] == []


def test_it_is_chosen_where_some_workers_share_a_host(ranks):
    for rank in ranks:
        assert rank["choices"]["auto"] == rank["choices"]["mixed"] == "mixed"
        assert rank["choices"]["p2p"] == "p2p"
        assert rank["choices"]["shared_memory"].startswith("transport 'shared_memory' cannot be: worker ")
        assert rank["choices"]["shared_memory"].endswith("; p2p can")


def test_a_host_whose_workers_cannot_reach_each_other_has_messages_inside(ranks):
    for rank in ranks:
        assert rank["strangers"] == "mixed", "another host still has two that can"


@pytest.mark.parametrize(("victim", "overlap_steps"), [(1, 0), (2, 1)])
def test_the_others_notice_that_a_worker_was_killed_on_their_host_or_another(victim, overlap_steps):
    for rank in run_workers(4, hosts.killed, "aabb", victim, overlap_steps, killed=[victim]):
        assert "lost its exchange of step" in rank["said"]
        assert rank["seconds"] < 10
