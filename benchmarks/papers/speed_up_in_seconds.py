"""Linear speed-up in seconds: virtual time to a loss for 4 to 256 workers on two networks.

    python benchmarks/papers/speed_up_in_seconds.py

The steps to the loss are those of ``linear_speed_up.py``, at a rate n times as large; AllReduce and SGP take the same
ones there, for all workers have the same curvature. The virtual clock says how long a step takes: messages of the size
of ResNet-50 (25.56 M parameters in fp32), computation of 271 ms in the median with a spread of 5 % (``log_normal``).
271 ms is an iteration of OSGP on ImageNet in SlowMo's table of times (32 nodes, 10 Gbit/s), whose messages hide behind
it. ``theory`` is linear: the time of 4 workers times 4 / n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import linear_speed_up
import sgp_core
from comparison import Comparison, Findings, report
from sgp_core.clock import VirtualClock, traffic_of
from sgp_core.clock.computation import LogNormalComputation
from sgp_core.clock.network import build_network_model

MODEL_BYTES = 4 * 25_560_000
COMPUTATION = LogNormalComputation(step_ms=271.0, sigma=0.05)
NETWORKS_USED = ("ethernet_10g", "infiniband_100g")
ALGORITHMS = ("allreduce", "sgp", "osgp")
TARGET = 0.1
SCALING = "Assran et al. 2018, workshop version: scaling efficiency of SGP from 4 to 32 nodes, 10 Gbit/s"


def step_seconds(algorithm: str, network: str, n: int, steps: int = 40) -> float:
    """Return the mean time of a step once the first ten are over."""
    rule, graph = sgp_core.build_algorithm(algorithm), sgp_core.build_topology("one_peer_exponential", world_size=n)
    traffic = traffic_of(rule, graph, model_bytes=MODEL_BYTES)
    clock = VirtualClock(build_network_model({"name": network}), COMPUTATION, traffic, n)
    times = [float(np.mean(clock.advance(step))) for step in range(steps)]
    return (times[-1] - times[9]) / (steps - 10)


def find(sizes: Sequence[int] = linear_speed_up.SIZES) -> Findings:
    """Return everything."""
    found = Findings()
    needed = {n: row.own for n, row in zip(sizes, linear_speed_up.samples_per_worker(sizes, TARGET).rows, strict=True)}
    for network in NETWORKS_USED:
        lines: dict[str, list[tuple[float, float]]] = {}
        for algorithm in ALGORITHMS:
            a_step = {n: step_seconds(algorithm, network, n) for n in sizes}
            seconds = {n: a_step[n] * needed[n] for n in sizes}
            for n in sizes:
                linear = seconds[sizes[0]] * sizes[0] / n
                what = (
                    f"{network}, {algorithm}, n = {n}: seconds to a loss of {TARGET}, {a_step[n] * 1e3:.0f} ms a step"
                )
                found.rows.append(Comparison(what, seconds[n], theory=linear))
            lines[algorithm] = [(float(n), seconds[n]) for n in sizes]
            if {4, 32} <= set(sizes):
                efficiency = 100 * a_step[4] / a_step[32]
                published = 88.6 if (network, algorithm) == ("ethernet_10g", "sgp") else None
                what = f"{network}, {algorithm}: scaling efficiency from 4 to 32, %"
                source = SCALING if published else "no published number"
                found.rows.append(Comparison(what, efficiency, published, source))
        first = lines["allreduce"][0][1]
        lines["theory: linear, of allreduce with 4"] = [(float(n), first * sizes[0] / n) for n in sizes]
        found.curves[network] = lines
    found.notes.append(
        "Theory: linear from the time of 4 workers of the same algorithm. At large n the rate is"
        " large, and contracts by more than its exponential: hence the times below it."
    )
    return found


if __name__ == "__main__":
    report("speed_up_in_seconds", __doc__, find)
