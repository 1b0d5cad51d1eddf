"""What decides on the messages of a rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.algorithms.base import OneSided

if TYPE_CHECKING:
    from sgp_core.algorithms import Algorithm
    from sgp_core.pacing import Pace
    from sgp_core.topology import Topology


@dataclass(frozen=True, eq=False)
class Traffic:
    """Who sends how much to whom when, and what it waits for.

    Attributes:
        algorithm: the rule, which :class:`sgp_core.clock.follow.Follower` lets run.
        topology: over the gossip nodes.
        model_bytes: of a whole vector, as exact averages send it.
        message_bytes: of one message of gossip, coded if it is coded, and its weight.
        pace: None for a round after every step.
        node_size: workers of a gossip node.
        step_in_backward: whether messages leave while gradients are computed.
        buckets: bytes of the parts in which gradients are averaged while backward runs, as torch's DDP does; empty:
            all of them when it is over.
        remarks: sentences on what cannot be known beforehand, and what is taken for it.
    """

    algorithm: Algorithm
    topology: Topology
    model_bytes: int
    message_bytes: int
    pace: Pace | None = None
    node_size: int = 1
    step_in_backward: bool = False
    buckets: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def workers(self) -> int:
        """Number of workers."""
        return self.topology.world_size * self.node_size

    @property
    def one_sided(self) -> OneSided | None:
        """How workers communicate that never wait for each other; None: they keep step."""
        return self.algorithm.traits.one_sided
