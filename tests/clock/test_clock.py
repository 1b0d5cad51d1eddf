"""What holds for every network and rule: no order of workers, no faster link that makes slower, nothing by chance."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgp_core import build_algorithm, build_topology
from sgp_core.algorithms import ALGORITHMS
from sgp_core.clock import NetworkModel, VirtualClock, build_computation, predict, traffic_of
from sgp_core.clock.fluid import Crowd, transfer
from sgp_core.clock.wiring import Wiring

N, M = 8, 1_000_000
TOPOLOGIES = {"adpsgd": "bipartite_exponential", "relaysgd": "spanning_tree", "d2": "ring", "decentlam": "ring"}
NETWORKS = {
    "regions": NetworkModel(bandwidth_mbit=200.0, delay_ms=1.0, regions=[{"bandwidth_mbit": 100.0}] * 2),
    "hosts": NetworkModel(
        bandwidth_mbit=200.0,
        workers_per_host=2,
        inside_mbit=2000.0,
        cpu_ms_per_mb=0.5,
        cpu_ms_per_message=0.1,
        busy_speed=0.8,
    ),
    "uneven": NetworkModel(
        bandwidth_mbit=200.0,
        up_mbit=50.0,
        hosts={"1": {"bandwidth_mbit": 20.0}},
        pairs={"0-3": {"bandwidth_mbit": 10.0, "delay_ms": 30.0}},
        loss=0.001,
        delay_ms=2.0,
    ),
}


def clock_of(name: str, network: NetworkModel, seed: int = 0, **options: object) -> VirtualClock:
    topology = build_topology(TOPOLOGIES.get(name, "one_peer_exponential"), world_size=N)
    options |= {"lazy": True} if name == "d2" else {}
    computation = build_computation({"name": "log_normal", "step_ms": 50.0, "sigma": 0.5})
    assert computation is not None
    return VirtualClock(
        network, computation, traffic_of(build_algorithm(name, **options), topology, model_bytes=M), N, seed
    )


def follow(clock: VirtualClock, first: int, steps: int) -> list[object]:
    if clock.asynchronous:
        return [clock.next_turn() for _ in range(steps * N)]
    return [clock.advance(step).tolist() for step in range(first, first + steps)]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_a_saved_clock_goes_on_to_the_bit(name: str, network: str) -> None:
    options: dict[str, object] = {"overlap_steps": 3} if name == "osgp" else {}
    clock, again = (clock_of(name, NETWORKS[network], **options) for _ in range(2))
    follow(clock, 0, 7)
    again.load(json.loads(json.dumps(clock.state())))
    assert follow(again, 7, 6) == follow(clock, 7, 6)
    assert again.now == clock.now


def test_the_seed_decides() -> None:
    first, second, other = (follow(clock_of("sgp", NETWORKS["regions"], seed), 0, 5) for seed in (1, 1, 2))
    assert first == second != other


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["sgp", "osgp", "allreduce", "local_sgd", "dpsgd"]),
    mbit=st.floats(1.0, 10_000.0),
    faster=st.floats(1.0, 10.0),
    delay=st.floats(0.0, 20.0),
)
def test_a_faster_network_is_never_slower(name: str, mbit: float, faster: float, delay: float) -> None:
    slow, fast = (
        follow(clock_of(name, NetworkModel(bandwidth_mbit=rate, delay_ms=delay)), 0, 8)
        for rate in (mbit, mbit * faster)
    )
    assert (np.array(fast) <= np.array(slow) * (1 + 1e-9)).all()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_workers_of_equal_links_may_change_places(data: st.DataObject) -> None:
    """Whose messages meet on a link decides, not what the workers are called."""
    order = np.array(data.draw(st.permutations(range(N))))
    edges = data.draw(st.lists(st.tuples(st.integers(0, N - 1), st.integers(1, N - 1)), min_size=1, max_size=12))
    starts = np.array([data.draw(st.integers(0, 5)) * 0.01 for _ in edges])
    senders = np.array([sender for sender, _ in edges])
    receivers = np.array([(sender + hop) % N for sender, hop in edges])
    wiring = Wiring(NetworkModel(bandwidth_mbit=100.0), N)

    def ends(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return transfer(wiring.routes(a, b), wiring.capacity, starts, np.full(len(starts), float(M)))

    assert ends(order[senders], order[receivers]) == pytest.approx(ends(senders, receivers))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_short_way_agrees_with_the_long_one(data: st.DataObject) -> None:
    """Messages that meet none are not taken through the moments at which rates change: the result is the same."""
    edges = data.draw(st.lists(st.tuples(st.integers(0, N - 1), st.integers(1, N - 1)), min_size=1, max_size=10))
    starts = np.array([data.draw(st.floats(0.0, 1.0)) for _ in edges])
    senders = np.array([sender for sender, _ in edges])
    receivers = np.array([(sender + hop) % N for sender, hop in edges])
    wiring = Wiring(NETWORKS[data.draw(st.sampled_from(sorted(NETWORKS)))], N)
    routes, sizes = wiring.routes(senders, receivers), np.full(len(starts), float(M))
    finite = np.isfinite(wiring.capacity[routes.link])
    crowd = Crowd(routes.message[finite], routes.link[finite], wiring.capacity, routes.limit)
    assert transfer(routes, wiring.capacity, starts, sizes) == pytest.approx(crowd.transfer(starts, sizes))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_rates_are_fair(data: st.DataObject) -> None:
    """No link carries more than it can, and every message has a link that is full and on which none has more."""
    edges = data.draw(st.lists(st.tuples(st.integers(0, N - 1), st.integers(1, N - 1)), min_size=1, max_size=12))
    senders = np.array([sender for sender, _ in edges])
    receivers = np.array([(sender + hop) % N for sender, hop in edges])
    wiring = Wiring(NETWORKS[data.draw(st.sampled_from(["regions", "hosts"]))], N)
    routes = wiring.routes(senders, receivers)
    finite = np.isfinite(wiring.capacity[routes.link])
    message, link = routes.message[finite], routes.link[finite]
    rates = Crowd(message, link, wiring.capacity, routes.limit).rates(np.ones(len(edges), dtype=bool))
    load = np.bincount(link, weights=rates[message], minlength=len(wiring.capacity))
    assert (load <= wiring.capacity * (1 + 1e-9)).all()
    for number in range(len(edges)):
        full = [one for one in link[message == number] if load[one] >= wiring.capacity[one] * (1 - 1e-9)]
        assert any(rates[number] >= rates[message[link == one]].max() * (1 - 1e-9) for one in full)


def test_many_workers_take_seconds() -> None:
    topology = build_topology("one_peer_exponential", world_size=1024)
    computation = build_computation({"name": "log_normal"})
    assert computation is not None
    traffic = traffic_of(build_algorithm("sgp"), topology, model_bytes=M)
    found = predict(NetworkModel(bandwidth_mbit=1000.0), computation, traffic, 1024, steps=20)
    assert 0.1 < found.step_s < 0.2
    assert found.wire_bytes == M
