"""What a rule sends, read off what it does, and against what real workers count."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from sgp_core import build_algorithm, build_topology
from sgp_core.algorithms import Algorithm, Outer, Worker, build_outer
from sgp_core.clock import NetworkModel, build_computation, predict, traffic_of
from sgp_core.clock.acts import Await, Collective, Leave
from sgp_core.clock.follow import Follower
from sgp_core.clock.prediction import rhythm
from sgp_core.compression import build_compression
from sgp_core.pacing import Pace, build_pace

N, M = 8, 1_000_000
RING = 2 * (N - 1) / N * M
"""Bytes that a worker sends in a ring AllReduce."""


def bytes_per_step(
    algorithm: Algorithm, topology: str = "one_peer_exponential", steps: int = 48, **options: object
) -> float:
    graph = build_topology(topology, world_size=N // int(options.get("node_size", 1)))  # type: ignore[call-overload]
    computation = build_computation({"name": "constant"})
    assert computation is not None
    traffic = traffic_of(algorithm, graph, model_bytes=M, **options)  # type: ignore[arg-type]
    return predict(NetworkModel(bandwidth_mbit=1000.0), computation, traffic, N, steps=steps).wire_bytes


@pytest.mark.parametrize(
    ("name", "options", "topology", "expected"),
    [
        ("sgp", {}, "one_peer_exponential", M),
        ("sgp", {}, "directed_linear", M),
        ("osgp", {}, "one_peer_exponential", M),
        ("osgp", {"overlap_steps": 2}, "one_peer_exponential", M + 8),
        ("dpsgd", {}, "ring", 2 * M),
        ("gradient_tracking", {}, "one_peer_exponential", 2 * M),
        ("decentlam", {}, "ring", 2 * M),
        ("relaysgd", {}, "star", 2 * (N - 1) / N * M),
        ("allreduce", {}, "one_peer_exponential", RING),
        ("local_sgd", {"period": 12}, "ring", RING / 12),
        ("local_sgd", {"period": 0}, "ring", 0.0),
        ("gossip_pga", {"period": 4}, "one_peer_exponential", 3 / 4 * M + RING / 4),
    ],
)
def test_bytes_of_a_rule(name: str, options: dict[str, object], topology: str, expected: float) -> None:
    assert bytes_per_step(build_algorithm(name, **options), topology) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "more"),
    [
        ("slowmo", {"tau": 12}, RING / 12),
        ("slowmo", {"tau": 12, "buffers": "average"}, 2 * RING / 12),
        ("slowmo", {"tau": 12, "exact_average": False}, 0.0),
        ("bmuf", {"tau": 24}, RING / 24),
        ("diloco", {"tau": 16}, RING / 16),
        ("noloco", {"tau": 16}, M / 16),
    ],
)
def test_what_an_outer_adds(name: str, options: dict[str, object], more: float) -> None:
    outer = build_outer(name, build_algorithm("sgp"), **options)
    assert bytes_per_step(outer) == pytest.approx(M + more)


def test_an_average_that_is_asked_for_twice_is_made_once() -> None:
    outer = build_outer("diloco", build_algorithm("local_sgd", period=4), tau=16)
    assert bytes_per_step(outer) == pytest.approx(RING / 4)


def test_paces() -> None:
    assert bytes_per_step(build_algorithm("sgp"), pace=build_pace("every", steps=4)) == pytest.approx(M / 4)
    warm = bytes_per_step(build_algorithm("sgp"), pace=build_pace("every", warmup_steps=12))
    assert warm == pytest.approx(4 / 48 * RING + 44 / 48 * M)  # of 56 steps, the first eight are left out
    graph = build_topology("one_peer_exponential", world_size=N)
    unknown = traffic_of(build_algorithm("sgp"), graph, model_bytes=M, pace=build_pace("threshold"))
    assert ["cannot be known beforehand" in remark for remark in unknown.remarks] == [True]


def test_several_rounds_are_several_messages() -> None:
    rounds = build_pace("rounds", rounds=3, filter="chebyshev")
    assert bytes_per_step(build_algorithm("dpsgd"), "ring", pace=rounds) == pytest.approx(3 * 2 * M)


@dataclass(frozen=True)
class NeedsTensors(Algorithm):
    """A rule that looks at its vectors, which are not there."""

    def receive(self, worker: Worker) -> None:
        torch.linalg.vector_norm(worker.params.tensors[0])
        worker.network.mix(worker.params, worker.step)


def test_a_rule_that_cannot_be_followed_counts_as_plain_gossip() -> None:
    traffic = traffic_of(NeedsTensors(), build_topology("ring", world_size=N), model_bytes=M)
    assert ["could not be found" in remark for remark in traffic.remarks] == [True]
    assert bytes_per_step(NeedsTensors(), "ring") == pytest.approx(2 * M)


def test_coded_messages_have_the_bytes_of_their_codec() -> None:
    assert bytes_per_step(build_algorithm("sgp"), compression=build_compression("fp16")) == pytest.approx(
        M / 2, rel=1e-3
    )
    int8 = bytes_per_step(build_algorithm("sgp"), compression=build_compression("int8"))
    assert M / 4 < int8 < M / 3.5


def test_nodes_average_inside_and_exchange_shards() -> None:
    """Of two workers a node: half the gradients to the other, a shard to the peer, half the model to the other."""
    assert bytes_per_step(build_algorithm("sgp"), "ring", node_size=2) == pytest.approx(M / 2 + 2 * M / 2 + M / 2)


def test_acts_of_osgp_leave_before_a_computation_and_are_awaited_after_it() -> None:
    graph = build_topology("one_peer_exponential", world_size=N)
    follower = Follower(traffic_of(build_algorithm("osgp"), graph, model_bytes=M))
    first, second, third = (follower.acts() for _ in range(3))
    assert [type(act) for act in first] == [Leave]  # all models are alike: there is nothing to combine
    assert [type(act) for act in second] == [type(act) for act in third] == [Await, Leave]


def test_allreduce_has_one_collective() -> None:
    graph = build_topology("ring", world_size=N)
    acts = Follower(traffic_of(build_algorithm("allreduce"), graph, model_bytes=M)).acts()
    assert [(type(act), act.nbytes) for act in acts if isinstance(act, Collective)] == [(Collective, M)]
    assert len(acts) == 1


@pytest.mark.parametrize(
    ("algorithm", "pace", "expected"),
    [
        (build_algorithm("sgp"), None, 3),
        (build_algorithm("gossip_pga", period=16), None, 48),
        (build_outer("diloco", build_algorithm("local_sgd", period=0), tau=500), None, 500),
        (build_outer("slowmo", build_algorithm("osgp"), tau=48), build_pace("every", steps=5), 240),
        (build_algorithm("d2", lazy=True), None, 300),
    ],
)
def test_means_are_over_whole_rhythms(algorithm: Algorithm, pace: Pace | None, expected: int) -> None:
    name = "ring" if algorithm == build_algorithm("d2", lazy=True) else "one_peer_exponential"
    topology = build_topology(name, world_size=N)
    traffic = traffic_of(algorithm, topology, model_bytes=M, pace=pace)
    assert rhythm(traffic) in (expected, expected // 3)
    computation = build_computation({"name": "constant"})
    assert computation is not None
    if isinstance(algorithm, Outer) and pace is None:
        assert predict(None, computation, traffic, N).wire_bytes == pytest.approx(RING / 500)
