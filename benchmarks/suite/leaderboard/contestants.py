"""Who takes part: every registered algorithm whose workers march together, where it can run, and every outer.

Found from the registries, so that a new algorithm joins by itself. Imports without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sgp_core.algorithms import ALGORITHMS, OUTERS, Algorithm, build_algorithm, build_outer
from sgp_core.compatibility import check_compatibility
from sgp_core.errors import ConfigurationError
from sgp_core.topology import Topology, build_topology

MOMENTUM = 0.9
PERIOD = 12
"""Steps between exact averages, wherever there are any."""
GRAPHS = ("ring", "one_peer_exponential")
"""Where an algorithm that gossips takes part, as far as it is defined there."""
ELSEWHERE = ("spanning_tree", "bipartite_exponential")
"""Where it takes part, in the first it is defined on, if on none of :data:`GRAPHS`."""
OF_ITS_OWN = {"sgp": ("one_peer_exponential", "exponential"), "dpsgd": ("ring",), "osgp": ("one_peer_exponential",)}
"""Graphs of algorithms that would be another's numbers, or nothing new, on the others."""
OPTIONS: dict[str, dict[str, Any]] = {
    "local_sgd": {"period": PERIOD},
    "gossip_pga": {"period": PERIOD},
    "d2": {"lazy": True},  # the eigenvalues of a ring of 16 reach -1/3
}
BASES = {"slowmo": ("local_sgd", "sgp")}
"""What an outer is wrapped around; any other around local SGD, silent between its blocks."""
NO_GRAPH = "complete"
"""Stands for the graph of algorithms that have none."""


@dataclass(frozen=True)
class Contestant:
    """One line of the table. Plain data, so that it can be sent to another process."""

    algorithm: str
    topology: str
    momentum: float
    """Of the optimizer."""
    outer: str | None = None
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """Return what to call the rule, such as ``sgp + slowmo``."""
        return f"{self.algorithm} + {self.outer}" if self.outer else self.algorithm

    @property
    def graph(self) -> str:
        """Return the topology's name, or a dash where it plays no part."""
        return self.topology if ALGORITHMS.get(self.algorithm).traits.gossips else "-"

    @property
    def momentum_is(self) -> str:
        """Return whose momentum there is: the optimizer's, the rule's own or none."""
        own = ALGORITHMS.get(self.algorithm).traits.own_momentum
        return "its own" if own else f"{self.momentum:g}" if self.momentum else "-"

    def rule(self) -> Algorithm:
        """Build the rule."""
        rule = build_algorithm(self.algorithm, **self.options)
        return rule if self.outer is None else build_outer(self.outer, rule, tau=PERIOD)

    def graph_of(self, workers: int) -> Topology:
        """Build the graph."""
        return build_topology(self.topology, workers)


def all_contestants(workers: int) -> list[Contestant]:
    """Return all that can take part with so many workers: first algorithms by themselves, then outers."""
    return [*_algorithms(workers), *_outers(workers)]


def _algorithms(workers: int) -> Iterator[Contestant]:
    for name in ALGORITHMS.names():
        kind, options = ALGORITHMS.get(name), OPTIONS.get(name, {})
        if kind.traits.one_sided is not None:
            continue  # asynchronous workers depend on a clock, and the simulator has none
        graphs: Sequence[str] = OF_ITS_OWN.get(name, GRAPHS) if kind.traits.gossips else (NO_GRAPH,)
        legal = [graph for graph in graphs if _legal(Contestant(name, graph, 0.0, None, options), workers)]
        if not legal:
            others = [graph for graph in ELSEWHERE if _legal(Contestant(name, graph, 0.0, None, options), workers)]
            legal = others[:1]
        for graph in legal:
            for momentum in (0.0, MOMENTUM):
                contestant = Contestant(name, graph, momentum, None, options)
                if _legal(contestant, workers):
                    yield contestant


def _outers(workers: int) -> Iterator[Contestant]:
    for outer in OUTERS.names():
        for base in BASES.get(outer, ("local_sgd",)):
            silent = {"period": 0} if base == "local_sgd" else {}
            contestant = Contestant(base, OF_ITS_OWN.get(base, (NO_GRAPH,))[0], MOMENTUM, outer, silent)
            if _legal(contestant, workers):
                yield contestant


def _legal(contestant: Contestant, workers: int) -> bool:
    try:
        rule = contestant.rule()
        rule.check_optimizer({"momentum": contestant.momentum})
        check_compatibility(rule, contestant.graph_of(workers))
    except ConfigurationError:
        return False
    return True
