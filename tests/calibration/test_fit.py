"""A network is fitted to timings so that the clock gives those timings again."""

from __future__ import annotations

import math

import pytest

from sgp_core.algorithms import build_algorithm
from sgp_core.calibration.fit import fit_line, network_options
from sgp_core.clock import ComputationModel, NetworkModel, predict, traffic_of
from sgp_core.topology import build_topology

SIZES = (16_384, 131_072, 1_048_576, 8_388_608)
NO_COMPUTATION = ComputationModel.from_options({"name": "constant", "step_ms": 0.0})


def test_a_line_is_found_again() -> None:
    line = fit_line([(size, 0.002 + size / 25e6) for size in SIZES])
    assert (line.alpha, line.rate) == (pytest.approx(0.002), pytest.approx(25e6))


def test_the_rate_is_that_of_large_messages_where_a_burst_passes_first() -> None:
    rate, burst = 25e6, 131_072
    line = fit_line([(size, 0.001 + max(size / 1e9, (size - burst) / rate)) for size in SIZES])
    assert line.rate == pytest.approx(rate)
    assert line.seconds(SIZES[-1]) == pytest.approx(SIZES[-1] / rate, rel=0.02)


@pytest.mark.parametrize(
    ("timings", "alpha", "rate"),
    [
        ([(100, 0.5)], 0.0, 200.0),
        ([(100, 0.1), (1000, 1.1)], 0.0, pytest.approx(950, rel=0.1)),
        ([(100, 0.2), (1000, 0.1)], pytest.approx(0.13, rel=0.1), math.inf),
    ],
)
def test_nothing_is_negative(timings: list[tuple[float, float]], alpha: float, rate: float) -> None:
    line = fit_line(timings)
    assert (line.alpha, line.rate) == (alpha, rate)


@pytest.mark.parametrize(("workers", "per_host"), [(8, 8), (8, 1), (8, 4)])
def test_the_clock_gives_the_timings_again(workers: int, per_host: int) -> None:
    """Of messages between hosts, where there are several, and of the AllReduce."""
    message = {size: 0.0015 + size / 20e6 for size in SIZES}
    ring = {size: 2 * (workers - 1) * (0.001 + size / workers / 10e6) for size in SIZES}
    timings = {"all_reduce": list(ring.items())}
    timings |= {"inside": list(message.items())} if per_host > 1 else {}
    timings |= {"across": list(message.items())} if per_host < workers else {}
    network = NetworkModel.from_options(network_options(timings, workers, per_host, 2, None, 0.9))
    for size in SIZES:
        sgp = traffic_of(build_algorithm("sgp"), build_topology("directed_ring", workers), model_bytes=size)
        predicted = predict(network, NO_COMPUTATION, sgp, workers, steps=4)
        if per_host in (1, workers):  # else fewer messages share a link than when it was measured
            assert predicted.step_s == pytest.approx(message[size], rel=0.02)
        allreduce = traffic_of(build_algorithm("allreduce"), build_topology("ring", workers), model_bytes=size)
        if per_host in (1, workers):
            assert predict(network, NO_COMPUTATION, allreduce, workers, steps=4).step_s == pytest.approx(
                ring[size], rel=0.02
            )
    assert network.workers_per_host == (0 if per_host == workers else per_host)
