"""Workers of several hosts, some of one: the numbers of messages, whatever way a model goes."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sgp_core
from sgp_core.distributed import host_memory
from sgp_core.distributed.host_memory import Hosts
from sgp_core.errors import ConfigurationError
from sgp_core.tensors.mixing import GRAIN
from sgp_core.topology import TOPOLOGIES
from sgp_core.transports.hierarchical.plan import InterHostPlan, PlanChunk, plan_of, split_into_chunks
from sgp_core.transports.shared_memory.blocked_mixing import BlockedMixer
from tests.support.examples import examples
from tests.support.workers import GROUP_TIMEOUT, run_workers
from tests.workers import hosts, shared_memory
from tests.workers.agreement import Irregular

Sent = tuple[int, int]
"""Whose vector, and the number of the chunk."""


def _somewhere(n: int, seed: int) -> Hosts:
    """Deal n workers to hosts."""
    where = random.Random(seed)
    found = defaultdict(list)
    for rank in range(n):
        found[where.randrange(1 + n // 2)].append(rank)
    return tuple(sorted(tuple(ranks) for ranks in found.values()))


def _mine(routes: InterHostPlan, chunks: tuple[PlanChunk, ...], rank: int) -> tuple[PlanChunk, ...]:
    members = routes.component.members
    return chunks[members.index(rank) :: len(members)]


@settings(max_examples=examples(50), deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(set(TOPOLOGIES.names()) - {"custom", "schedule"})),
    n=st.integers(1, 12),
    step=st.integers(0, 5),
    seed=st.integers(0, 100),
    size=st.sampled_from([1, 5, 20_000, 40_000]),
)
def test_what_is_sent_is_what_is_awaited_and_makes_the_matrix(name, n, step, seed, size):
    try:
        graph = sgp_core.build_topology(name, world_size=n)
    except ConfigurationError:
        return
    edges, where = graph.edges(step), _somewhere(n, seed)
    routes = [plan_of(edges, rank, where) for rank in range(n)]
    assert len({r.max_senders for r in routes}) == 1
    chunks = split_into_chunks(((size, 8), (3, 4)), routes[0].max_senders, where)
    x = torch.randn(n, size + 3, dtype=torch.float64)
    mixed, old = x.clone(), x.clone()
    sent: dict[tuple[int, int], list[Sent]] = defaultdict(list)
    awaited: dict[tuple[int, int], list[Sent]] = defaultdict(list)
    for rank, route in enumerate(routes):
        component = route.component
        for chunk in _mine(route, chunks, rank):
            for place, takers in route.outgoing:
                taker = takers[chunk.number % len(takers)]
                sent[rank, taker].append((component.members[place], chunk.number))
            for sender, turns in zip(component.senders, route.incoming, strict=True):
                awaited[turns[chunk.number % len(turns)], rank].append((sender, chunk.number))
            columns = slice(chunk.begin + chunk.piece * size, chunk.end + chunk.piece * size)
            assert chunk.begin % GRAIN == 0
            BlockedMixer().mix(
                component, [*(mixed[m, columns] for m in component.members), *old[[*component.senders], columns]]
            )
    assert sent == awaited
    home = {rank: host for host in where for rank in host}
    assert all(home[one] != home[other] for one, other in sent)
    torch.testing.assert_close(mixed, torch.from_numpy(graph.mixing_matrix(step)) @ x, rtol=0, atol=1e-12)


def test_a_vector_comes_to_a_host_once_however_many_need_it():
    edges = sgp_core.build_topology("complete", world_size=6).edges(0)
    where = ((0, 1, 2), (3, 4, 5))
    routes = plan_of(edges, 0, where)
    assert routes.component.senders == (3, 4, 5)
    assert [vector.receivers for vector in routes.outgoing] == [(3, 4, 5)] * 3


@pytest.mark.parametrize("megabytes", [1, 3, 100])
def test_every_worker_of_a_host_has_as_many_chunks(megabytes):
    where = ((0, 1), (2, 3, 4))
    chunks = split_into_chunks(((megabytes * (1 << 20) // 4, 4),), 1, where)
    for host in where:
        shares = [sum(chunk.end - chunk.begin for chunk in chunks[place :: len(host)]) for place in range(len(host))]
        assert max(shares) - min(shares) <= GRAIN * len(chunks)


@pytest.mark.parametrize(
    ("reached", "expected"),
    [
        ([(0, 1), (0, 1), (2,)], ((0, 1), (2,))),
        ([(0, 2), (1, 3), (0, 2), (1, 3)], ((0, 2), (1, 3))),  # two containers, or users, of one host
        ([(0, 1, 2), (0, 1), (0, 1, 2)], ((0,), (1,), (2,))),  # only one way: no worker can rely on it
        ([(), (), ()], ((0,), (1,), (2,))),
    ],
)
def test_hosts_are_workers_who_all_reach_each_other(reached, expected):
    assert host_memory.group_by_host(reached) == expected


CASES = ["aabb", "abbca"]
"""Hosts by rank: two with two workers each; two with two, not next to each other, and one with one."""


@pytest.fixture(scope="module", params=CASES)
def ranks(request):
    n = len(request.param)
    ring, exponential = (sgp_core.build_topology(name, world_size=n) for name in ("ring", "one_peer_exponential"))
    graphs = [shared_memory.graphs(n)[-1], Irregular(n)]
    cases = [
        (sgp_core.build_algorithm("sgp"), Irregular(n)),
        (sgp_core.build_algorithm("sgp", overlap_steps=2), exponential),
    ]
    if request.param == CASES[0]:
        graphs.append(sgp_core.build_topology("complete", world_size=n))
        cases += [(sgp_core.build_algorithm("dpsgd"), ring), (sgp_core.build_algorithm("sgp", overlap_steps=1), ring)]
    return run_workers(
        n, hosts.beside_each_other, request.param, shared_memory.LAYOUTS[3:], graphs, cases, 40 if n == 4 else 20
    )


def test_numbers_are_those_of_messages_bit_for_bit(ranks):
    for rank in ranks:
        assert rank["bits"] == []
        assert rank["trained"] == []


def test_it_is_chosen_where_some_workers_share_a_host(ranks):
    for rank in ranks:
        assert rank["choices"]["auto"] == rank["choices"]["mixed"] == rank["choices"]["hierarchical"] == "hierarchical"
        assert rank["choices"]["p2p"] == "p2p"
        assert rank["choices"]["shared_memory"].startswith("transport 'shared_memory' is not available here: worker ")
        assert rank["choices"]["shared_memory"].endswith("; use transport=p2p")


def test_workers_of_a_host_that_cannot_reach_each_other_send_messages(ranks):
    for rank in ranks:
        assert rank["strangers"] == "hierarchical", "there is another host with two that can"


def test_a_killed_worker_is_named_on_its_host_and_on_another():
    said = {}
    for rank, result in zip((0, 2, 3), run_workers(4, hosts.killed, "aabb", 1, 0, killed=[1]), strict=True):
        assert f"rank {rank} lost its exchange of step" in result["said"]
        assert result["seconds"] < GROUP_TIMEOUT.total_seconds() / 2
        said[rank] = result["said"]
    assert "rank 1 (process " in said[0]
    assert "has ended" in said[0]
    assert "rank 1: " in said[3]


def test_a_killed_worker_is_named_where_messages_are_in_flight():
    said = []
    for result in run_workers(4, hosts.killed, "aabb", 2, 1, killed=[2]):
        assert "lost its exchange of step" in result["said"]
        assert result["seconds"] < GROUP_TIMEOUT.total_seconds() / 2
        said.append(result["said"])
    assert any("rank 2: " in words or "rank 2 (process " in words for words in said)
