"""Where a topology is weak for its number of workers, and which one of no more messages is better."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import inf
from typing import Any

from sgp_core.errors import ConfigurationError
from sgp_core.topology.analysis import Analysis, effective_neighbors, exact_in, messages_per_step, steps_to
from sgp_core.topology.base import TOPOLOGIES, Topology
from sgp_core.topology.regions import Regions, messages_across

SMALL_GAP = 0.1
"""A spectral gap per step below this is small: 1e-4 takes some 90 steps and more."""

PRECISION = 1e-4
"""Graphs are compared by the steps until ||Pi - J||_2 is as small as this."""

GAMMA = 0.99
"""The decay at which effective neighbours are compared."""

_CANDIDATES = ("one_peer_exponential", "base_k")
"""Graphs for any number of workers and peers, doubly stochastic; the first wins a draw: its workers never idle."""

_FASTER = 0.75
"""A graph is better if it takes at most this share of the steps."""


@dataclass(frozen=True)
class Better:
    """A topology that reaches the precision in fewer steps, at no more messages a step.

    Attributes:
        name, options: as :func:`build_topology` takes them.
        exact_in: steps until every worker holds the exact mean; None if never.
        steps: steps until ||Pi - J||_2 <= :data:`PRECISION`.
        messages_per_step: messages a worker sends per step, on average.
        effective_neighbors: n_eff at :data:`GAMMA`.
    """

    name: str
    options: dict[str, Any]
    exact_in: int | None
    steps: int | None
    messages_per_step: float
    effective_neighbors: float


@dataclass(frozen=True)
class Advice:
    """What to know before taking a topology.

    Attributes:
        warnings: sentences, one for each weakness at this number of workers; none if there is no weakness.
        better: a topology without it; None if none of no more messages is much faster, or there is no weakness.
    """

    warnings: tuple[str, ...]
    better: Better | None


def advise(topology: Topology, analysis: Analysis) -> Advice:
    """Return where ``topology`` is weak for its ``world_size``; ``analysis`` holds its figures."""
    if topology.world_size <= 2:
        return Advice((), None)
    warnings = [*topology.drawbacks()]
    if inexact := _exact_elsewhere(topology, analysis):
        warnings.append(inexact)
    if analysis.spectral_gap < SMALL_GAP:
        steps = _steps(topology, analysis)
        warnings.append(
            f"the spectral gap is small, {analysis.spectral_gap:.2g} a step: {steps or 'endless'} steps to 1e-4"
        )
    return Advice(tuple(warnings), _better(topology, analysis) if warnings else None)


def _exact_elsewhere(topology: Topology, analysis: Analysis) -> str | None:
    """Return the sentence that says that a period would be exact at another size; None if that is not so.

    Graphs of p peers are exact at powers of p + 1, or of 2, if at all: those around n are tried.
    """
    if analysis.exact_in is not None or analysis.period is None or analysis.period == 1:
        return None
    for base in dict.fromkeys((getattr(topology, "peers", 1) + 1, 2)):
        sizes = [size for size in _powers_around(topology.world_size, base) if _is_exact(topology, size)]
        if sizes:
            power = "power of two" if base == 2 else f"power of {base}"
            return (
                f"{topology.world_size} is no {power}: a period of {analysis.period} steps leaves a residual of"
                f" {analysis.contraction_per_period:.3g} (||product - J||_2, at most that share of the distance to the"
                f" mean) and is never exact; over {' or '.join(map(str, sizes))} workers it is"
            )
    return None


def _powers_around(n: int, base: int) -> list[int]:
    above = base
    while above < n:
        above *= base
    return [] if above == n else [size for size in (above // base, above) if size > 3]


def _is_exact(topology: Topology, size: int) -> bool:
    """Whether the same graph over ``size`` workers is exact; not if there is none."""
    try:
        return exact_in(dataclasses.replace(topology, world_size=size)) is not None
    except ConfigurationError:
        return False


def _better(topology: Topology, analysis: Analysis) -> Better | None:
    """Return the candidate that takes the fewest steps, if it is much faster; of a draw, that of fewest messages."""
    most = max(1, int(analysis.messages_per_step + 1e-9))
    graphs = [
        TOPOLOGIES.build(name, world_size=topology.world_size, peers=peers)
        for peers in sorted({1, most})
        for name in _CANDIDATES
    ]
    if isinstance(topology, Regions):  # it is slow because it sends little across
        sizes = topology.region_sizes
        graphs = [one for one in graphs if messages_across(one, sizes) <= messages_across(topology, sizes)]
    candidates = [_figures(graph) for graph in graphs]
    if not candidates:
        return None
    best = min(candidates, key=lambda one: (inf if one.steps is None else one.steps, one.messages_per_step))
    own = _steps(topology, analysis)
    faster = best.steps is not None and best.steps <= _FASTER * (inf if own is None else own)
    return best if faster else None


def _steps(topology: Topology, analysis: Analysis) -> int | None:
    """Return the steps to the precision, which the analysis may hold already: the search takes most of the time."""
    return analysis.steps_to[PRECISION] if PRECISION in analysis.steps_to else steps_to(topology, PRECISION)


def _figures(topology: Topology) -> Better:
    peers = getattr(topology, "peers", 1)
    return Better(
        name=topology.name,
        options={} if peers == 1 else {"peers": peers},
        exact_in=exact_in(topology),
        steps=steps_to(topology, PRECISION),
        messages_per_step=messages_per_step(topology)[0],
        effective_neighbors=effective_neighbors(topology, GAMMA),
    )
