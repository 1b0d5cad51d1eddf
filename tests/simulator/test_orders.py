"""Models that travel while gradients are computed: real workers and the simulator agree, and so do all transports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle

import networkx as nx
import pytest
import torch

import sgp_core
from sgp_core.algorithms import OUTERS, Algorithm
from sgp_core.compression import COMPRESSIONS
from sgp_core.errors import ConfigurationError
from sgp_core.topology import TOPOLOGIES, Topology
from tests.support.workers import run_workers
from tests.workers.agreement import (
    Case,
    Lopsided,
    follow_targets,
    make_optimizer,
    simulate_case,
    targets,
    train_ways,
)

TOLERANCE = 1e-12
STEPS = 6
"""Two blocks of an outer, and the beginning of a third."""
TRANSPORTS = ("p2p", "shared_memory")
OPTIMIZERS = ("without decay", "sgd", "adamw")
"""Models are averaged in place before the first, and apart from the others, which read them."""

awc = partial(sgp_core.build_algorithm, order="adapt_while_communicate")


KINDS: dict[int, Sequence[str]] = {
    1: ("complete",),
    2: ("ring", "star", "random_matching"),
    3: ("base_k", "equidyn", "schedule", "star"),
    5: ("erdos_renyi", "random_matching", "schedule", "spanning_tree", "one_peer_exponential"),
    8: [name for name in TOPOLOGIES.names() if name != "custom"],
}
"""By the number of workers: every kind once, and more than once those that differ with it."""


def graphs(n: int) -> list[Topology]:
    """The kinds for ``n`` workers, with uneven weights where they take them, and irregular digraphs."""
    found: list[Topology] = [Lopsided(n)]
    if n > 2:
        edges = nx.gnp_random_graph(n, 0.3, seed=n, directed=True)
        edges.add_edges_from((rank, (rank + 1) % n) for rank in range(n))
        found.append(sgp_core.build_topology(edges, weights="uniform"))
    for name in KINDS[n]:
        options = {"weights": "uniform"} if "weights" in TOPOLOGIES.options(name) else {}
        if name == "schedule":
            options = {"unit": "step", "phases": phases(n)}
        found.append(TOPOLOGIES.build(name, world_size=n, **options))
    return found


def phases(n: int) -> list[dict]:
    """Peer counts and weights that change under messages on their way."""
    return [
        {"start": 0, "name": "one_peer_exponential", "peers": max(1, min(2, n - 1))},
        {"start": 2, "name": "star", "weights": "uniform"},
        {"start": 3, "name": "directed_ring"},
    ]


def rules(graph: Topology) -> list[Algorithm]:
    """The algorithms that are defined on a graph, by themselves and with every outer around one of them."""
    found = [awc("osgp"), awc("gossip_pga", period=4), awc("sgp"), awc("dpsgd"), awc("gradient_tracking")]
    found += [sgp_core.build_outer(name, awc("osgp"), tau=2) for name in OUTERS.names() if name != "none"]
    return [rule for rule in found if _defined(rule, graph)]


def _defined(rule: Algorithm, graph: Topology) -> bool:
    try:
        rule.check(graph)
    except ConfigurationError:
        return False
    return True


def cases(n: int) -> list[Case]:
    """Every graph, its rules and the optimizers in turn."""
    chosen: list[Case] = []
    kinds = cycle(OPTIMIZERS)
    for number, graph in enumerate(graphs(n)):
        possible = rules(graph)
        chosen.append((possible[number % len(possible)], graph, next(kinds), {}))
    return chosen


def of_every_rule(n: int) -> list[Case]:
    """Every rule on a regular graph and, where it is defined, on an irregular one."""
    kinds = cycle(OPTIMIZERS)
    both = Lopsided(n), TOPOLOGIES.build("one_peer_exponential", world_size=n)
    return [(rule, graph, next(kinds), {}) for graph in both for rule in rules(graph)]


def paced(n: int) -> list[Case]:
    """Paces with a round that is hidden, several that are not, none, and exact averages."""
    build = sgp_core.build_pace
    regular, hybrid = (
        TOPOLOGIES.build("one_peer_exponential", world_size=n),
        TOPOLOGIES.build("schedule", world_size=n, unit="step", phases=phases(n)),
    )
    return [
        (awc("osgp"), Lopsided(n), "sgd", {"pace": build("every", steps=2)}),
        (awc("dpsgd"), regular, "without decay", {"pace": build("every", steps=2, warmup_steps=2)}),
        (awc("osgp"), hybrid, "adamw", {"pace": build("target", distance=1e-4, every=1)}),
        (awc("osgp"), Lopsided(n), "without decay", {"pace": build("target", distance=1e-4, every=1)}),
        (awc("osgp"), hybrid, "without decay", {"pace": build("threshold", action="average", distance=1e-4, every=1)}),
        (awc("osgp"), regular, "sgd", {"pace": build("threshold", action="peers", distance=1e-4, every=1)}),
        (
            sgp_core.build_outer("slowmo", awc("osgp"), tau=3),
            Lopsided(n),
            "sgd",
            {"pace": build("every", warmup_steps=2)},
        ),
    ]


def coded(n: int) -> list[Case]:
    """Every codec, in place and apart, with weights and without."""
    regular = TOPOLOGIES.build("one_peer_exponential", world_size=n)
    return [
        (awc("osgp"), graph, kind, {"compression": COMPRESSIONS.build(name)})
        for name in COMPRESSIONS.names()
        for graph, kind in ((Lopsided(n), "without decay"), (regular, "sgd"))
    ]


def between_nodes() -> list[Case]:
    """Four nodes of two workers each."""
    options = {"node_size": 2}
    int8 = {**options, "compression": COMPRESSIONS.build("int8")}
    return [
        (awc("osgp"), Lopsided(4), "without decay", options),
        (awc("dpsgd"), TOPOLOGIES.build("ring", world_size=4), "sgd", {**options, "shard_optimizer": True}),
        (awc("osgp"), Lopsided(4), "adamw", {**int8, "shard_optimizer": True}),
    ]


def check(cases: list[Case], ranks: list) -> None:
    """Hold what real workers found against the simulator, and transports against each other."""
    for number, (algorithm, topology, kind, options) in enumerate(cases):
        case = algorithm, topology, kind, options
        simulated = {key: value for key, value in options.items() if key != "shard_optimizer"}
        run = simulate_case(algorithm, topology, kind, STEPS, **simulated)
        size = options.get("node_size", 1)
        for rank, found in enumerate(ranks):
            first, *others = found[number].values()
            for other in others:
                assert torch.equal(other["z"], first["z"]), case
                assert torch.equal(other["w"], first["w"]), case
                assert other["sent"] == first["sent"], case
            assert (first["z"] - run.z[:, rank // size]).abs().max() <= TOLERANCE, case
            assert (first["w"] - run.w[:, rank // size]).abs().max() <= TOLERANCE, case
        sent = sum(found[number][next(iter(found[number]))]["sent"] for found in ranks) / len(ranks)
        if not options:
            assert sent == pytest.approx(run.bytes_sent, abs=STEPS), case  # averages are counted in whole bytes


MORE: dict[int, Callable[[], list[Case]]] = {
    3: lambda: [*of_every_rule(3), *paced(3), *coded(3)],
    8: between_nodes,
}
"""What is tried with one of the numbers of workers alone."""


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_every_graph_rule_outer_and_codec_agrees_with_the_simulator_over_every_transport(n: int) -> None:
    chosen = [*cases(n), *(MORE[n]() if n in MORE else [])]
    check(chosen, run_workers(n, train_ways, chosen, TRANSPORTS if n > 1 else ("auto",), STEPS))


def test_real_workers_round_as_the_simulator_does() -> None:
    """Where all workers share one set of mixing weights, as in synchronous SGP."""
    regular = [TOPOLOGIES.build(name, world_size=4) for name in ("one_peer_exponential", "ring", "exponential")]
    chosen = [
        (sgp_core.build_algorithm("sgp", order=order), graph, kind, {"transport": transport})
        for order, transports in (("atc", ("p2p",)), ("awc", TRANSPORTS))
        for transport in transports
        for graph in regular
        for kind in ("without decay", "sgd")
    ]
    ranks = run_workers(4, follow_targets, chosen, STEPS)
    for number, (algorithm, graph, kind, options) in enumerate(chosen):
        run = sgp_core.simulate(
            algorithm,
            graph,
            torch.ones(4, 300, dtype=torch.float64),
            lambda z, step: z - targets(4),
            optimizer=lambda p, kind=kind: make_optimizer(p, kind),
            steps=STEPS,
        )
        for rank, found in enumerate(ranks):
            assert torch.equal(found[number], run.z[1:, rank]), (graph, kind, options)
