"""torch's DDP on the clock: closed forms, what it has in common with AllReduce, torch's own buckets, measured steps."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sgp_core import build_algorithm, build_topology
from sgp_core.clock import NetworkModel, VirtualClock, build_computation, gradient_buckets, predict, traffic_of
from sgp_core.clock.gradient_buckets import average_in_backward
from sgp_core.errors import ConfigurationError
from sgp_core.tensors.layout import TensorLayout
from tests.support.workers import run_workers

N, M = 8, 1_000_000
RATE = 100e6 / 8  # bytes/s of a link
NETWORKS = {
    "regions": NetworkModel(bandwidth_mbit=200.0, delay_ms=1.0, regions=[{"bandwidth_mbit": 100.0}] * 2),
    "hosts": NetworkModel(bandwidth_mbit=200.0, workers_per_host=2, inside_mbit=2000.0, busy_speed=0.5),
    "tree": NetworkModel(bandwidth_mbit=200.0, delay_ms=3.0, collective="tree"),  # type: ignore[arg-type]
    "uneven": NetworkModel(bandwidth_mbit=200.0, hosts={"1": {"bandwidth_mbit": 20.0}}, delay_ms=2.0),
}


def network(**options: object) -> NetworkModel:
    return NetworkModel(**{"bandwidth_mbit": 100.0, "payload": 1.0, "rendezvous": False, **options})  # type: ignore[arg-type]


def ends(
    links: NetworkModel, buckets: tuple[int, ...], computation: dict[str, object], node_size: int = 1, steps: int = 6
) -> np.ndarray:
    """Return when each worker is done with each step; without buckets, of ``allreduce``."""
    topology = build_topology("ring", world_size=N // node_size)
    traffic = traffic_of(build_algorithm("allreduce"), topology, model_bytes=M, node_size=node_size, buckets=buckets)
    times = build_computation(computation)
    assert times is not None
    clock = VirtualClock(links, times, traffic, N)
    return np.array([clock.advance(step) for step in range(steps)])


def constant(step_ms: float) -> dict[str, object]:
    return {"name": "constant", "step_ms": step_ms}


def ring(nbytes: float, delay_s: float = 0.0) -> float:
    return 2 * (N - 1) * (nbytes / N / RATE + delay_s)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("node_size", [1, 2])
def test_with_one_bucket_it_is_the_allreduce_after_backward(name: str, node_size: int) -> None:
    varying: dict[str, object] = {"name": "log_normal", "step_ms": 50.0, "sigma": 0.5}
    whole = ends(NETWORKS[name], (M,), varying, node_size)
    assert whole == pytest.approx(ends(NETWORKS[name], (), varying, node_size))


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(1, M - 1), max_size=12, unique=True),
    step_ms=st.floats(0.0, 1000.0),
    delay=st.sampled_from([0.0, 2.0]),
)
def test_each_bucket_waits_for_its_gradients_and_for_the_bucket_before(
    cuts: list[int], step_ms: float, delay: float
) -> None:
    """The step ends with the last ring: the latest of a bucket that is ready, and all rings from it on."""
    edges = [0, *sorted(cuts), M]
    buckets = tuple(int(size) for size in np.diff(edges))
    rings = [ring(size, delay / 1e3) for size in buckets]
    forward, backward = step_ms / 3e3, step_ms / 1.5e3
    expected = max(forward + backward * ready / M + sum(rings[at:]) for at, ready in enumerate(edges[1:]))
    found = ends(network(delay_ms=delay), buckets, constant(step_ms), steps=2)
    assert found[0] == pytest.approx(expected)
    assert found[1] == pytest.approx(2 * expected)
    assert expected >= forward + max(backward, ring(M)) * (1 - 1e-9), "the rule of thumb is the best there can be"


def test_what_is_sent_is_what_allreduce_sends() -> None:
    computation = build_computation(constant(10.0))
    assert computation is not None
    both = [
        predict(
            NETWORKS["hosts"],
            computation,
            traffic_of(
                build_algorithm("allreduce"), build_topology("ring", 4), model_bytes=M, node_size=2, buckets=buckets
            ),
            N,
        )
        for buckets in ((), (M // 4,) * 4)
    ]
    assert both[0].wire_bytes == pytest.approx(both[1].wire_bytes)
    assert both[0].busiest_link_bytes == pytest.approx(both[1].busiest_link_bytes)
    assert both[0].busiest_link == both[1].busiest_link


def test_all_wait_for_a_slow_worker() -> None:
    slow: dict[str, object] = {"name": "slow_worker", "step_ms": 50.0, "worker": 3, "times": 4.0}
    buckets = (M // 4,) * 4
    assert ends(network(), buckets, slow) == pytest.approx(ends(network(), buckets, constant(200.0)))


def test_computation_is_slower_while_buckets_travel() -> None:
    """100 ms of forward, then two halves of 100; a ring takes 70, in which half as much of the second is computed."""
    found = ends(network(busy_speed=0.5), (M // 2, M // 2), constant(300.0), steps=1)
    assert found[0] == pytest.approx(0.1 + 0.1 + 0.135 + 0.07)


def test_steps_inside_backward_are_slowed_down_likewise() -> None:
    """A message of 80 ms, which costs 40 ms of the 200 of backward."""
    traffic = traffic_of(
        build_algorithm("sgp"), build_topology("one_peer_exponential", N), model_bytes=M, step_in_backward=True
    )
    computation = build_computation(constant(300.0))
    assert computation is not None
    assert predict(network(busy_speed=0.5), computation, traffic, N).step_s == pytest.approx(0.34)


@settings(max_examples=40, deadline=None)
@given(
    mbit=st.floats(1.0, 10_000.0),
    faster=st.floats(1.0, 10.0),
    delay=st.floats(0.0, 20.0),
    speed=st.floats(0.2, 1.0),
    count=st.integers(1, 9),
)
def test_a_faster_network_is_never_slower(mbit: float, faster: float, delay: float, speed: float, count: int) -> None:
    buckets = (*[M // count] * (count - 1), M - (count - 1) * (M // count))
    varying: dict[str, object] = {"name": "log_normal", "step_ms": 50.0, "sigma": 0.5}
    slow, fast = (
        ends(NetworkModel(bandwidth_mbit=rate, delay_ms=delay, busy_speed=speed), buckets, varying)
        for rate in (mbit, mbit * faster)
    )
    assert (fast <= slow * (1 + 1e-9)).all()


@given(
    work=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=5),
    seconds=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=6),
    speed=st.floats(0.1, 1.0),
)
def test_no_work_is_lost_while_buckets_travel(work: list[float], seconds: list[float], speed: float) -> None:
    """A step takes no less than work or rings alone, and no more than slow work and all rings after it."""
    begins, needed = np.zeros(len(work)), np.array(work)
    ready = [(at + 1) / len(seconds) for at in range(len(seconds))]
    over = average_in_backward(begins, needed, ready, seconds, speed)
    assert (over >= max(needed.max(), sum(seconds)) * (1 - 1e-9)).all()
    assert (over <= (needed.max() / speed + sum(seconds)) * (1 + 1e-9)).all()


class Chain(nn.Module):
    """Parameters of some sizes, used one after another."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.vectors = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for vector in self.vectors:
            x = x * (1 + vector.sum())
        return x


def buckets_of_ddp(cases: list[tuple[list[int], float | None]]) -> list[list[int]]:
    """Return the bytes of the buckets that torch's DDP averages in the second step of each model, one after another."""
    found = []
    for sizes, bucket_mb in cases:
        taken: list[int] = []

        def average(state, bucket, taken=taken):  # type: ignore[no-untyped-def]  # torch compares annotations
            taken.append(4 * bucket.buffer().numel())
            done: torch.futures.Future = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        model = DistributedDataParallel(Chain(sizes), bucket_cap_mb=bucket_mb)
        model.register_comm_hook(None, average)
        for _ in range(2):  # after the first step buckets are made anew, in the order in which gradients were ready
            taken.clear()
            model(torch.ones(1)).sum().backward()
        found.append(taken)
    return found


def test_buckets_are_those_of_torch() -> None:
    cases: list[tuple[list[int], float | None]] = [
        ([1000], None),
        ([9_000_000, 300_000, 40_000, 3_000_000, 700_000, 200_000], None),
        ([1_000_000] * 20, None),
        ([100_000, 400_000, 262_144, 1, 500_000, 90_000], 1),
        ([300_000] * 9, 2),
    ]
    [found] = run_workers(1, buckets_of_ddp, cases)
    for (sizes, bucket_mb), expected in zip(cases, found, strict=True):
        layout = (TensorLayout.packed([(size,) for size in sizes], "float32"),)
        limits = {} if bucket_mb is None else {"bucket_mb": bucket_mb, "first_mb": bucket_mb}
        assert list(gradient_buckets(layout, **limits)) == expected


def test_buckets_are_those_of_the_gradients_of_allreduce() -> None:
    ring_of_all = build_topology("ring", N)
    with pytest.raises(ConfigurationError, match="the algorithm whose gradients leave in buckets must be allreduce"):
        traffic_of(build_algorithm("sgp"), ring_of_all, model_bytes=M, buckets=(M,))
    with pytest.raises(ConfigurationError, match="the bytes of all buckets must be those of the model, 1000000"):
        traffic_of(build_algorithm("allreduce"), ring_of_all, model_bytes=M, buckets=(M // 2,))


BLOCK = 249_039
"""Elements of one of the ten blocks of the padded model of docs/benchmarks.md, whose small net comes last."""
SHAPES = [*[(BLOCK,)] * 10, (128, 64), (128,), (10, 128), (10,)]
MEASURED = [  # Mbit/s, ms of computation, MB of a bucket, measured ms
    (200, 209, 25, 943),
    (200, 209, 1, 832),
    (1000, 42, 25, 195),
    (50, 836, 25, 3754),
]


@pytest.mark.parametrize(("mbit", "compute_ms", "bucket_mb", "measured"), MEASURED)
def test_measured_steps_of_ddp_over_gloo(mbit: int, compute_ms: float, bucket_mb: float, measured: float) -> None:
    """Eight workers behind shaped links; where a size is given, torch's first bucket has it, too."""
    layout = (TensorLayout.packed(SHAPES, "float32"),)
    traffic = traffic_of(
        build_algorithm("allreduce"),
        build_topology("ring", N),
        model_bytes=4 * sum(map(prod, SHAPES)),
        buckets=gradient_buckets(layout, bucket_mb=bucket_mb, first_mb=bucket_mb),
    )
    computation = build_computation(constant(compute_ms))
    assert computation is not None
    found = predict(NetworkModel(bandwidth_mbit=float(mbit)), computation, traffic, N, steps=8).step_s * 1e3
    assert found == pytest.approx(measured, rel=0.02 if mbit < 1000 else 0.05)
