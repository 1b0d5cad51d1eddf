"""Whether choices that are each fine go together: asked by the launcher, by ``Gossip`` and by ``simulate``.

Imports without torch: the launcher asks before any worker exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from sgp_core.algorithms import Algorithm
    from sgp_core.compression import Codec
    from sgp_core.pacing import Pace
    from sgp_core.topology import Topology


def check_together(
    algorithm: Algorithm,
    topology: Topology,
    *,
    pace: Pace | None = None,
    compression: Codec | None = None,
    node_size: int = 1,
) -> None:
    """Refuse choices that do not go together.

    Args:
        pace: None for a round after every step.
        compression: None for none.
        node_size: workers of a node.

    Raises:
        ConfigurationError: with the reason and what would be right.
    """
    algorithm.check(topology)
    if pace is not None:
        algorithm.check_pace(pace)
    if compression is not None:
        compression.check(algorithm)
    if node_size == 1:
        return
    if algorithm.asynchronous:
        raise ConfigurationError("workers of a node march together, those of this algorithm do not; use single workers")
    if pace is not None and pace.measure_every:
        raise pace.refuse("how far nodes are apart is not measured on the way yet; use pace=every")
