"""Whether choices that are each fine go together: asked by the launcher, by ``Gossip`` and by ``simulate``.

Imports without torch: the launcher asks before any worker exists.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError
from sgp_core.nonfinite import Nonfinite
from sgp_core.pacing.graphs import graphs_of

if TYPE_CHECKING:
    from sgp_core.algorithms import Algorithm
    from sgp_core.compression import Codec
    from sgp_core.pacing import Pace
    from sgp_core.topology import Topology

_SIZES_TRIED = 64
"""Up to this size graphs are made, to see whether they exist."""


def check_compatibility(
    algorithm: Algorithm,
    topology: Topology,
    *,
    pace: Pace | None = None,
    compression: Codec | None = None,
    node_size: int = 1,
    step_in_backward: bool = False,
    nonfinite: Nonfinite | None = None,
    elastic: bool = False,
) -> None:
    """Refuse choices that do not go together. The optimizer is for ``algorithm.check_optimizer``.

    Args:
        pace: None for a round after every step.
        compression: None for none.
        node_size: workers of a node.
        step_in_backward: whether the optimizer's steps are taken inside backward.
        nonfinite: what is done about numbers that are not finite.
        elastic: whether workers may die and come while training goes on.

    Raises:
        ConfigurationError: with the reason and what would be right.
    """
    algorithm.check(topology)
    if pace is not None:
        algorithm.check_pace(pace)
        algorithm.check(graphs_of(topology, pace))
    if compression is not None:
        compression.check(algorithm)
        if pace is not None and pace.needs_exact_rounds:
            raise pace.refuse("it combines exact rounds, and codecs mix approximately; use compression=none")
    if step_in_backward:
        _check_in_backward(algorithm, node_size)
        if nonfinite is Nonfinite.skip:
            raise ConfigurationError(
                "inside backward, parts of a step are over before all gradients are known, so nonfinite=skip comes too"
                " late; use step_in_backward=false, or nonfinite=stop"
            )
    if elastic:
        _check_elastic(algorithm, pace, compression, node_size, step_in_backward, nonfinite)
        graphs_of_all_sizes(topology)
    if node_size == 1:
        return
    if algorithm.traits.asynchronous:
        raise ConfigurationError(
            "the workers of a node step together, those of this algorithm do not; use single workers"
        )


def _check_elastic(
    algorithm: Algorithm,
    pace: Pace | None,
    compression: Codec | None,
    node_size: int,
    step_in_backward: bool,
    nonfinite: Nonfinite | None,
) -> None:
    """Refuse what cannot go on when a worker dies or comes.

    What remembers its peers (codecs with replicas, gradient tracking, messages in flight), or needs all of them at
    once (outers, exact averages, node groups), would have to forget or to wait.
    """
    from sgp_core.algorithms.base import Outer
    from sgp_core.pacing.every import Every

    traits, why = algorithm.traits, ""
    if isinstance(algorithm, Outer):
        why = "an outer averages all workers exactly, and its momentum is of all of them; use outer=none"
    elif not (traits.gossips and traits.sends_weight) or traits.asynchronous or traits.steps_in_flight:
        why = "only PushSum whose step ends with nothing in flight survives a worker; use sgp or osgp"
    elif pace is not None and pace != Every():
        why = "rounds are counted alike on all workers; use pace=every"
    elif compression is not None:
        why = "codecs remember what peers know; use compression=none"
    elif node_size > 1:
        why = "a node group needs all of its workers; use single workers"
    elif step_in_backward:
        why = "messages of a step leave together; use step_in_backward=false"
    elif nonfinite is Nonfinite.skip:
        why = "nonfinite=skip asks all workers in each step; use nonfinite=stop"
    if why:
        raise ConfigurationError(f"elastic: {why}")


def graphs_of_all_sizes(topology: Topology) -> dict[int, Topology]:
    """Return the topology for every number of workers up to its own.

    Raises:
        ConfigurationError: it does not exist for one of them.
    """
    graphs = {}
    for size in range(1, topology.world_size + 1):
        try:
            graphs[size] = dataclasses.replace(topology, world_size=size)
            if size <= _SIZES_TRIED:
                graphs[size].edges(0)
        except (ConfigurationError, TypeError, ValueError, IndexError):
            raise ConfigurationError(
                f"elastic: topology '{topology.name}' does not exist for {size} workers, which may be left when others"
                " die; use one_peer_exponential, exponential, ring or complete"
            ) from None
    return graphs


def _check_in_backward(algorithm: Algorithm, node_size: int) -> None:
    why = ""
    if algorithm.traits.reads_gradients:
        why = "this algorithm changes gradients before any step"
    elif algorithm.traits.asynchronous:
        why = "this algorithm's workers exchange whole models"
    elif algorithm.traits.sends_ahead:
        why = "models of order=adapt_while_communicate travel until backward is over, and are combined before any step"
    elif node_size > 1:
        why = "the workers of a node average gradients before any step"
    if why:
        raise ConfigurationError(f"{why}, so none can be taken inside backward; use step_in_backward=false")
