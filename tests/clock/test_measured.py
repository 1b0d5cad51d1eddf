"""The clock against times measured with gloo: eight workers, links shaped by the kernel or a small switch."""

from __future__ import annotations

import pytest

from sgp_core import build_algorithm, build_topology
from sgp_core.clock import NetworkModel, build_computation, predict, traffic_of

N = 8
SHAPED = [  # Mbit/s, bytes, AllReduce ms, push along the exponential graph ms
    (200, 100_000_000, 7336, 4211),
    (200, 10_000_000, 732, 425),
    (200, 5_000_000, 365, 209),
    (500, 10_000_000, 295, 170),
    (1000, 10_000_000, 160, 89),
]
"""At 1 Gbit/s the two cores of that machine are the limit: 180 ms of processor time for an AllReduce."""

DELAYED = [  # ms one way, bytes, AllReduce ms, push ms, at 200 Mbit/s, under foreign load of 1.5 to 2 cores
    (1, 10_000_000, 814, 473),
    (5, 1_000_000, 204, 87.1),
    (5, 10_000_000, 849, 540),
]


def milliseconds(name: str, network: NetworkModel, nbytes: int) -> float:
    topology = build_topology("one_peer_exponential", world_size=N)
    computation = build_computation({"name": "constant", "step_ms": 0.0})
    assert computation is not None
    traffic = traffic_of(build_algorithm(name), topology, model_bytes=nbytes)
    return predict(network, computation, traffic, N, steps=6).step_s * 1e3


@pytest.mark.parametrize(("mbit", "nbytes", "allreduce", "push"), SHAPED)
def test_shaped_links(mbit: int, nbytes: int, allreduce: float, push: float) -> None:
    network = NetworkModel(bandwidth_mbit=float(mbit))
    tolerance = 0.02 if mbit < 1000 else 0.09
    assert milliseconds("allreduce", network, nbytes) == pytest.approx(allreduce, rel=tolerance)
    assert milliseconds("sgp", network, nbytes) == pytest.approx(push, rel=tolerance)


@pytest.mark.parametrize(("delay", "nbytes", "allreduce", "push"), DELAYED)
def test_links_with_delay(delay: float, nbytes: int, allreduce: float, push: float) -> None:
    """The load and the switch cost some ms more; small messages are left out: the ticks of the scheduler rule them."""
    network = NetworkModel(bandwidth_mbit=200.0, delay_ms=float(delay))
    assert milliseconds("allreduce", network, nbytes) == pytest.approx(allreduce, rel=0.15)
    assert milliseconds("sgp", network, nbytes) == pytest.approx(push, rel=0.45 if nbytes < 10_000_000 else 0.22)


def test_where_delay_rules_the_ratio_is_that_of_the_messages() -> None:
    """Measured with 1 KB and 5 ms: 154 against 13.1 ms, a ratio of 11.8."""
    network = NetworkModel(bandwidth_mbit=200.0, delay_ms=5.0)
    allreduce, push = milliseconds("allreduce", network, 1_000), milliseconds("sgp", network, 1_000)
    assert allreduce == pytest.approx(154, rel=0.1)
    assert allreduce / push == pytest.approx(14, rel=0.01)


def test_loopback() -> None:
    """Two cores without foreign load: AllReduce of 100 MB 476 ms, push 241, one message alone 46."""
    network = NetworkModel.from_options({"name": "loopback"})
    assert milliseconds("allreduce", network, 100_000_000) == pytest.approx(476, rel=0.12)
    assert milliseconds("sgp", network, 100_000_000) == pytest.approx(241, rel=0.05)
