"""Whether choices that are each fine go together: asked by the launcher, by ``Gossip`` and by ``simulate``.

Imports without torch: the launcher asks before any worker exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError
from sgp_core.nonfinite import Nonfinite
from sgp_core.pacing.graphs import graphs_of

if TYPE_CHECKING:
    from sgp_core.algorithms import Algorithm
    from sgp_core.compression import Codec
    from sgp_core.pacing import Pace
    from sgp_core.topology import Topology


def check_compatibility(
    algorithm: Algorithm,
    topology: Topology,
    *,
    pace: Pace | None = None,
    compression: Codec | None = None,
    node_size: int = 1,
    step_in_backward: bool = False,
    nonfinite: Nonfinite | None = None,
) -> None:
    """Refuse choices that do not go together. The optimizer is for ``algorithm.check_optimizer``.

    Args:
        pace: None for a round after every step.
        compression: None for none.
        node_size: workers of a node.
        step_in_backward: whether the optimizer's steps are taken inside backward.
        nonfinite: what is done about numbers that are not finite.

    Raises:
        ConfigurationError: with the reason and what would be right.
    """
    algorithm.check(topology)
    if pace is not None:
        algorithm.check_pace(pace)
        algorithm.check(graphs_of(topology, pace))
    if compression is not None:
        compression.check(algorithm)
    if step_in_backward:
        _check_in_backward(algorithm, node_size)
        if nonfinite is Nonfinite.skip:
            raise ConfigurationError(
                "inside backward, parts of a step are over before all gradients are known, so nonfinite=skip comes too"
                " late; use step_in_backward=false, or nonfinite=stop"
            )
    if node_size == 1:
        return
    if algorithm.traits.asynchronous:
        raise ConfigurationError(
            "the workers of a node step together, those of this algorithm do not; use single workers"
        )


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
