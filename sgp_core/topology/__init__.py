"""Graphs as a pure function of the step, their mixing weights, and what is known about them. Needs numpy only."""

from sgp_core.topology.base import TOPOLOGIES, Edges, Topology

__all__ = ["TOPOLOGIES", "Edges", "Topology", "build_topology"]


def build_topology(name: str, world_size: int, **options: object) -> Topology:
    """Return the topology called ``name`` over ``world_size`` workers.

    Raises:
        ConfigurationError: unknown name or option, or the topology cannot exist for that many workers.
    """
    return TOPOLOGIES.build(name, world_size=world_size, **options)
