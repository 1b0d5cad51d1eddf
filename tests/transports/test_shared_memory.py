"""Workers that mix where their models lie: the numbers of messages, and nothing left behind."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sgp_core
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.tensors.mixing import GRAIN, mix_all_
from sgp_core.topology import TOPOLOGIES
from sgp_core.transports.select import place_model
from sgp_core.transports.shared_memory.mixing_plan import component_of
from tests.support.examples import examples
from tests.support.workers import GROUP_TIMEOUT, run_workers
from tests.workers import shared_memory


@pytest.mark.parametrize(("world_size", "layouts"), [(4, shared_memory.LAYOUTS), (5, shared_memory.LAYOUTS[3:])])
def test_numbers_are_those_of_messages_bit_for_bit(world_size, layouts):
    for differences in run_workers(
        world_size, shared_memory.differences_of_bits, layouts, shared_memory.graphs(world_size)
    ):
        assert differences == []


@settings(max_examples=examples(50), deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(set(TOPOLOGIES.names()) - {"custom", "schedule"})),
    n=st.integers(1, 12),
    step=st.integers(0, 5),
    size=st.integers(0, 5000),
)
def test_the_order_of_a_component_mixes_by_the_matrix(name, n, step, size):
    try:
        graph = sgp_core.build_topology(name, world_size=n)
    except ConfigurationError:
        return
    x = torch.randn(n, 3, dtype=torch.float64)
    expected = torch.from_numpy(graph.mixing_matrix(step)) @ x
    left, covered = list(range(n)), 0
    while left:
        component = component_of(graph.edges(step), left[0])
        stretches = [component.range_of(rank, size) for rank in component.members]
        assert stretches[0][0] == 0
        assert stretches[-1][1] == size
        assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(stretches))
        assert all(begin % GRAIN == 0 or begin == size for begin, _ in stretches)
        at = [*(x[member] for member in component.members), *torch.zeros(component.buffers, 3, dtype=torch.float64)]
        for turn in component.steps:
            if turn.keep is not None:
                at[turn.keep].copy_(at[turn.place])
            mix_all_(at[turn.place], turn.own_weight, [at[source] for source in turn.sources], turn.in_weights)
        left = [rank for rank in left if rank not in component.members]
        covered += len(component.members)
    assert covered == n
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_ring_of_messages_needs_one_copy(n):
    edges = sgp_core.build_topology("directed_ring", world_size=n).edges(0)
    assert component_of(edges, 0).buffers == 1
    assert sum(turn.keep is not None for turn in component_of(edges, 0).steps) == 1


@pytest.fixture(scope="module")
def ranks():
    return run_workers(2, shared_memory.beside_each_other)


def test_the_fastest_transport_that_can_be_is_chosen(ranks):
    for rank in ranks:
        said = rank["choices"]
        assert said["here auto"] == said["here shared_memory"] == "shared_memory"
        assert said["here p2p"] == said["apart p2p"] == "p2p"
        assert said["apart auto"] == said["hidden auto"] == "p2p"
        assert (
            said["here hierarchical"] == "transport 'hierarchical' is not available here: all workers are on one host,"
            " which is for shared_memory; use transport=p2p"
        )
        assert said["apart hierarchical"].startswith(
            "transport 'hierarchical' is not available here: no two workers share memory: worker "
        )
        assert said["here shared"] == "unknown transport 'shared'; did you mean 'shared_memory'?"
        assert said["apart shared_memory"].startswith("transport 'shared_memory' is not available here: worker ")
        assert "is on another host than worker" in said["apart shared_memory"]
        assert said["hidden shared_memory"].endswith("worker 0 cannot open the memory of worker 1; use transport=p2p")


def test_parameters_elsewhere_cannot_be_shared(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_process_group_ranks", lambda group: [0, 1])
    monkeypatch.setattr("torch.distributed.get_rank", lambda group: 0)
    model = nn.Linear(3, 1, device="meta")
    node = NodeGroup(None, 1, torch.device("meta"))
    with pytest.raises(ConfigurationError, match="the parameters are on meta, not in CPU memory"):
        place_model(model, list(model.parameters()), "shared_memory", node, 0)


def test_a_world_of_one_has_no_transport():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    algorithm = sgp_core.build_algorithm("sgp")
    assert sgp_core.Gossip(model, optimizer, algorithm=algorithm, transport="shared_memory").transport is None


def test_nothing_has_a_name_and_memory_goes_with_what_uses_it(ranks):
    for rank in ranks:
        mapped, named = rank["leftovers"]["during"]
        assert mapped == 4, "numbers and vectors of two workers"
        assert named == set()
        assert rank["leftovers"]["after"] == (0, 0)


def test_messages_nobody_made_room_for_are_refused(ranks):
    for rank in ranks:
        assert rank["deeper"] == "more messages are in flight than an algorithm with steps_in_flight=0 has"


def test_a_worker_that_does_not_come_is_given_up_on(ranks):
    said = ranks[0]["late"]["said"]
    assert ranks[0]["late"]["lost"] == (0, (1,), 1)
    assert "rank 0 lost its exchange of step 1 (receiving from [1], sending to [1])" in said
    assert "rank 1 has not come for 1 s" in said


@pytest.mark.parametrize("overlap_steps", [0, 2])
def test_the_others_notice_at_once_that_a_worker_was_killed(overlap_steps):
    for rank in run_workers(3, shared_memory.killed, 1, overlap_steps, killed=[1]):
        assert "lost its exchange of step" in rank["said"]
        assert "has ended" in rank["said"]
        assert (rank["rank"], rank["peers"]) == (rank["me"], (1,))
        assert f"exchange of step {rank['step']} " in rank["said"]
        assert rank["seconds"] < GROUP_TIMEOUT.total_seconds() / 2
