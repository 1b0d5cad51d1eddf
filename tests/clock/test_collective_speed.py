"""An AllReduce adds numbers besides moving them, and its steps have a delay of their own."""

import pytest

from sgp_core.algorithms import build_algorithm
from sgp_core.clock import ComputationModel, NetworkModel, predict, traffic_of
from sgp_core.topology import build_topology

NOTHING = ComputationModel.from_options({"name": "constant", "step_ms": 0.0})


def step_ms(**options: float) -> float:
    network = NetworkModel(bandwidth_mbit=800, payload=1.0, delay_ms=1.0, **options)
    traffic = traffic_of(build_algorithm("allreduce"), build_topology("ring", 4), model_bytes=4_000_000)
    return 1e3 * predict(network, NOTHING, traffic, 4, steps=4).step_s


def test_a_ring_of_four() -> None:
    assert step_ms() == pytest.approx(6 * (10 + 2))
    assert step_ms(collective_speed=0.5) == pytest.approx(6 * (20 + 2))
    assert step_ms(collective_speed=0.5, collective_delay_ms=0.5) == pytest.approx(6 * (20 + 0.5))
