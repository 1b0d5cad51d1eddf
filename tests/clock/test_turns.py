"""Asynchronous workers: turns in order of time, and shares when they are there."""

from __future__ import annotations

from collections import defaultdict

import pytest

from sgp_core import build_algorithm, build_topology
from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.clock import NetworkModel, Turn, VirtualClock, build_computation, traffic_of

N, M = 8, 1_000_000


def turns(
    name: str,
    network: NetworkModel | None,
    count: int,
    *,
    computation: dict[str, object] | None = None,
    faults: LinkFaults | None = None,
    **options: object,
) -> list[Turn]:
    topology = build_topology("bipartite_exponential" if name == "adpsgd" else "one_peer_exponential", world_size=N)
    model = build_computation(computation or {"name": "log_normal", "step_ms": 100.0, "sigma": 0.3})
    assert model is not None
    traffic = traffic_of(build_algorithm(name, **options), topology, model_bytes=M)
    clock = VirtualClock(network, model, traffic, N, link_faults=faults)
    return [clock.next_turn() for _ in range(count)]


@pytest.mark.parametrize("name", ["asgp", "adpsgd"])
def test_turns_come_in_order_of_time_and_each_worker_takes_its_steps_in_turn(name: str) -> None:
    found = turns(name, NetworkModel(bandwidth_mbit=500.0), 200)
    assert [turn.seconds for turn in found] == sorted(turn.seconds for turn in found)
    steps = defaultdict(list)
    for turn in found:
        steps[turn.rank].append(turn.step)
    assert all(own == list(range(len(own))) for own in steps.values())


def test_a_slow_worker_holds_up_no_other() -> None:
    slow = {"name": "slow_worker", "step_ms": 50.0, "worker": 3, "times": 5.0}
    found = turns("asgp", NetworkModel(bandwidth_mbit=200.0), 400, computation=slow)
    took = [
        max(turn.seconds for turn in found if turn.rank == rank) / sum(turn.rank == rank for turn in found)
        for rank in range(N)
    ]
    assert took == pytest.approx([0.25 if rank == 3 else 0.05 for rank in range(N)])


def test_every_share_arrives_once_after_its_transfer() -> None:
    network = NetworkModel(bandwidth_mbit=100.0, payload=1.0, delay_ms=5.0)
    found = turns("asgp", network, 400)
    left = {(turn.rank, turn.step): turn.seconds for turn in found}
    arrived = [(share.sender, share.step) for turn in found for share in turn.arrived]
    assert len(arrived) == len(set(arrived)) > 300
    for turn in found:
        for share in turn.arrived:
            assert left[share.sender, share.step] + 0.08 + 0.005 <= share.seconds + 1e-9 <= turn.seconds + 1e-8


def test_a_link_passes_no_more_than_it_can() -> None:
    """Steps of 100 ms on a link that takes 400 for each message: every fourth arrives, and they queue."""
    found = turns("asgp", NetworkModel(bandwidth_mbit=20.0, payload=1.0), 400)
    arrived = [share.seconds for turn in found for share in turn.arrived]
    assert len(arrived) / N == pytest.approx(found[-1].seconds / 0.4, rel=0.15)


def test_bounded_staleness_waits_for_peers_that_are_late() -> None:
    slow = {"name": "slow_worker", "step_ms": 50.0, "worker": 3, "times": 5.0}
    found = turns("asgp", None, 400, computation=slow, max_staleness=4)
    steps = [sum(turn.rank == rank for turn in found) for rank in range(N)]
    assert max(steps) - min(steps) <= (4 + 1) * 3  # once for each of the log2 n hops that a delay takes
    assert found[-1].seconds / min(steps) == pytest.approx(0.25, rel=0.03)


def test_partners_meet_after_both_models_have_travelled() -> None:
    network = NetworkModel(bandwidth_mbit=100.0, payload=1.0)
    constant = {"name": "constant", "step_ms": 100.0}
    found = turns("adpsgd", network, 2 * N, computation=constant)
    first = {turn.rank: turn.seconds for turn in found if turn.step == 0}
    assert {rank: first[rank] for rank in range(0, N, 2)} == pytest.approx(
        dict.fromkeys(range(0, N, 2), 0.1 + 2 * 0.08)
    )
    assert {rank: first[rank] for rank in range(1, N, 2)} == pytest.approx(dict.fromkeys(range(1, N, 2), 0.1))


def test_faults_lose_double_and_delay() -> None:
    network = NetworkModel(bandwidth_mbit=10_000.0)

    def shares(**faults: float) -> list[tuple[int, int, int]]:
        found = turns("asgp", network, 800, faults=LinkFaults(seed=1, **faults))  # type: ignore[arg-type]
        steps = [(turn.rank, share.sender, share.step) for turn in found for share in turn.arrived]
        return steps

    usual = shares()
    assert len(shares(drop=0.5)) == pytest.approx(len(usual) / 2, rel=0.15)
    doubled = shares(duplicate=0.5)
    assert len(doubled) - len(set(doubled)) == pytest.approx(len(usual) / 2, rel=0.15)
    assert sorted(shares(delay=1.0, delay_steps=2)) != sorted(usual)
    assert len(shares(delay=1.0, delay_steps=2)) > 0.9 * len(usual)
