"""Times of an iteration as published with SlowMo (Wang, Tantia, Ballas, Rabbat, ICLR 2020), by the virtual clock.

    python benchmarks/papers/slowmo_times.py

The paper trains ResNet-50 on 32 nodes and a large transformer on 8, on 10 Gbit/s Ethernet. The network is taken as
that, less the headers of TCP, no delay; the computation as what the published AllReduce leaves of its time when the
clock's AllReduce is taken off. Every other row then follows, none of it fitted: models have 25.56 and 210 million
parameters of 4 bytes, tau is 12 for local steps and 48 around SGP, and graphs are one-peer exponential.
"""

from __future__ import annotations

from dataclasses import dataclass

import sgp_core
from comparison import Comparison, Findings, report
from sgp_core.algorithms import Algorithm, build_outer
from sgp_core.clock import NetworkModel, build_computation, predict, traffic_of

SOURCE = "SlowMo, table of times"
BANDWIDTHS = (1, 2, 5, 10, 20, 50, 100)
STEPS = 192


@dataclass(frozen=True)
class PublishedTask:
    """A task of the paper.

    Attributes:
        nodes: workers.
        parameters: of the model.
        allreduce: ms of an iteration.
        others: ms of an iteration of each rule, as it is and inside SlowMo.
    """

    name: str
    nodes: int
    parameters: float
    allreduce: float
    others: dict[str, tuple[float, float]]


TASKS = (
    PublishedTask(
        "ImageNet, ResNet-50, 32 nodes",
        32,
        25.56e6,
        420.0,
        {"local SGD": (294.0, 282.0), "OSGP": (271.0, 271.0), "SGP": (304.0, 302.0)},
    ),
    PublishedTask(
        "WMT'16, transformer, 8 nodes", 8, 210e6, 1648.0, {"local SGD": (503.0, 505.0), "SGP": (1225.0, 1279.0)}
    ),
)
"""The transformer's local rule is local Adam: the same messages."""


def rule(name: str, slowmo: bool) -> Algorithm:
    """Return a rule of the paper's table, as it is or inside SlowMo."""
    if name == "local SGD":
        base = sgp_core.build_algorithm("local_sgd", period=0 if slowmo else 12)
        return build_outer("slowmo", base, tau=12) if slowmo else base
    base = sgp_core.build_algorithm({"SGP": "sgp", "OSGP": "osgp", "AllReduce": "allreduce"}[name])
    return build_outer("slowmo", base, tau=48) if slowmo else base


def milliseconds(task: PublishedTask, algorithm: Algorithm, compute_ms: float, gigabits: float = 10.0) -> float:
    """Return the clock's time of an iteration."""
    topology = sgp_core.build_topology("one_peer_exponential", world_size=task.nodes)
    traffic = traffic_of(algorithm, topology, model_bytes=int(4 * task.parameters))
    computation = build_computation({"name": "constant", "step_ms": compute_ms})
    assert computation is not None
    network = NetworkModel(bandwidth_mbit=1000.0 * gigabits)
    return predict(network, computation, traffic, task.nodes, steps=STEPS).step_s * 1e3


def computation_of(task: PublishedTask) -> float:
    """Return what AllReduce leaves for the computation, ms."""
    return task.allreduce - milliseconds(task, rule("AllReduce", False), 0.0)


def find() -> Findings:
    """Return everything."""
    found = Findings()
    for task in TASKS:
        compute_ms = computation_of(task)
        own = milliseconds(task, rule("AllReduce", False), compute_ms)
        found.rows.append(Comparison(f"{task.name}: AllReduce, ms (calibrated)", own, task.allreduce, SOURCE))
        for name, published in task.others.items():
            for slowmo in (False, True):
                own = milliseconds(task, rule(name, slowmo), compute_ms)
                what = f"{task.name}: {name}{' with SlowMo' if slowmo else ''}, ms"
                found.rows.append(Comparison(what, own, published[slowmo], SOURCE))
        found.curves[task.name] = {
            name: [(float(rate), milliseconds(task, rule(name, False), compute_ms, rate)) for rate in BANDWIDTHS]
            for name in ("AllReduce", *task.others)
        }
    found.notes.append(
        "The rows of the rules as they are lie within 10 % but one, SGP on ImageNet, 12 % above the published time. No"
        " clock whose messages wait for the optimizer gives that row: a message of 102 MB takes 82 ms on 10 Gbit/s even"
        " without headers, and the published SGP is only 33 ms above the published OSGP, which hides its messages. So"
        " the published SGP hid part of its messages, too, or sent fewer bytes. That the computation of ImageNet comes"
        " out 6 % below the published OSGP says the same of the published AllReduce: part of it was hidden, or its"
        " network was slower than taken here. Rows inside SlowMo add an AllReduce every tau steps; the published SGP on"
        " WMT'16 pays twice as much for it, and is 10.3 % above ours."
    )
    return found


if __name__ == "__main__":
    report("slowmo_times", __doc__, find)
