"""The clock against closed forms: what textbooks say a message, an AllReduce or an overlap costs."""

from __future__ import annotations

import numpy as np
import pytest

from sgp_core import build_algorithm, build_topology
from sgp_core.algorithms import build_outer
from sgp_core.clock import NetworkModel, VirtualClock, build_computation, predict, traffic_of

N, M = 8, 1_000_000
RATE = 100e6 / 8  # bytes/s of a link


def seconds(
    name: str,
    network: NetworkModel,
    *,
    step_ms: float = 0.0,
    topology: str = "one_peer_exponential",
    steps: int = 16,
    **options: object,
) -> float:
    graph = build_topology(topology, world_size=N)
    traffic = traffic_of(build_algorithm(name, **options), graph, model_bytes=M)
    computation = build_computation({"name": "constant", "step_ms": step_ms})
    assert computation is not None
    return predict(network, computation, traffic, N, steps=steps).step_s


def network(**options: object) -> NetworkModel:
    return NetworkModel(**{"bandwidth_mbit": 100.0, "payload": 1.0, "rendezvous": False, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_a_ring_allreduce(delay: float) -> None:
    took = seconds("allreduce", network(delay_ms=delay))
    assert took == pytest.approx(2 * (N - 1) / N * M / RATE + 2 * (N - 1) * delay / 1e3)


def test_a_tree_pays_delays_for_its_depth_only() -> None:
    took = seconds("allreduce", network(delay_ms=5, collective="tree"))
    assert took == pytest.approx(2 * (N - 1) / N * M / RATE + 2 * 3 * 5e-3)


@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_a_push_to_one_peer(delay: float) -> None:
    assert seconds("sgp", network(delay_ms=delay)) == pytest.approx(M / RATE + delay / 1e3)
    assert seconds("sgp", network(delay_ms=delay, rendezvous=True)) == pytest.approx(M / RATE + 2 * delay / 1e3)


def test_messages_to_several_peers_share_the_link() -> None:
    assert seconds("sgp", network(), topology="exponential") == pytest.approx(3 * M / RATE)


@pytest.mark.parametrize("step_ms", [20.0, 200.0])
def test_overlap_hides_the_shorter_of_the_two(step_ms: float) -> None:
    took = seconds("osgp", network(), step_ms=step_ms, steps=400)
    assert took == pytest.approx(max(step_ms / 1e3, M / RATE), rel=0.01)


def test_periods_divide() -> None:
    allreduce = seconds("allreduce", network())
    assert seconds("local_sgd", network(), period=4) == pytest.approx(allreduce / 4)
    topology = build_topology("ring", world_size=N)
    diloco = build_outer("diloco", build_algorithm("local_sgd", period=0), tau=8)
    computation = build_computation({"name": "constant", "step_ms": 0.0})
    assert computation is not None
    took = predict(network(), computation, traffic_of(diloco, topology, model_bytes=M), N, steps=16)
    assert took.step_s == pytest.approx(allreduce / 8)


def test_a_shared_uplink_is_shared() -> None:
    """Of eight workers that send four hops on all cross, four a direction; the uplink carries one at a time."""
    regions = [{"bandwidth_mbit": 100.0}, {"bandwidth_mbit": 100.0}]
    graph = build_topology("one_peer_exponential", world_size=N)
    traffic = traffic_of(build_algorithm("sgp"), graph, model_bytes=M)
    computation = build_computation({"name": "constant", "step_ms": 0.0})
    assert computation is not None
    clock = VirtualClock(network(regions=regions), computation, traffic, N)
    ends = np.array([clock.advance(step).max() for step in range(3)])
    assert np.diff(ends, prepend=0.0) == pytest.approx(np.array([1, 2, 4]) * M / RATE)
