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


def test_steps_inside_backward_hide_what_leaves_during_it() -> None:
    """Messages of 80 ms begin with backward, the last two thirds of the computation."""
    for step_ms, expected in ((300.0, 0.3), (60.0, 0.02 + 0.08)):
        graph = build_topology("one_peer_exponential", world_size=N)
        traffic = traffic_of(build_algorithm("sgp"), graph, model_bytes=M, step_in_backward=True)
        computation = build_computation({"name": "constant", "step_ms": step_ms})
        assert computation is not None
        assert predict(network(), computation, traffic, N).step_s == pytest.approx(expected)


def test_computation_is_slower_while_messages_travel() -> None:
    """160 ms of work: 80 at half the speed, then 120 more."""
    assert seconds("osgp", network(busy_speed=0.5), step_ms=160.0, steps=400) == pytest.approx(0.2, rel=0.01)


def test_workers_of_a_host_share_its_link() -> None:
    """One hop leads out of the host for one of two workers, two and four hops for both."""
    took = seconds("sgp", network(workers_per_host=2, inside_mbit=1000.0), steps=12)
    assert took == pytest.approx((1 + 2 + 2) / 3 * M / RATE)


def test_processors_bound_what_a_host_moves() -> None:
    """Eight messages inside a host cost 0.5 ms a megabyte at either end, on two processors."""
    took = seconds("sgp", network(workers_per_host=0, cpu_ms_per_mb=0.5, cores=2))
    assert took == pytest.approx(8 * 2 * 0.5e-3 / 2)


def test_nodes_scatter_inside_and_exchange_shards() -> None:
    """Four nodes of two: half a gradient and half a model to the other worker, then half a model to the peer node."""
    inside = network(workers_per_host=2, inside_mbit=1000.0)
    graph = build_topology("directed_ring", world_size=N // 2)
    traffic = traffic_of(build_algorithm("sgp"), graph, model_bytes=M, node_size=2)
    computation = build_computation({"name": "constant", "step_ms": 0.0})
    assert computation is not None
    took = predict(inside, computation, traffic, N)
    within = 2 * (M / 2) / (RATE * 10)  # both halves pass what joins the workers
    assert took.step_s == pytest.approx(2 * within + 2 * (M / 2) / RATE)
