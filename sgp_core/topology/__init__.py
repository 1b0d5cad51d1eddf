"""Graphs as a pure function of the step, their mixing weights, and what is known about them. Needs numpy only."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import TOPOLOGIES, Edges, MatrixTopology, Topology
from sgp_core.topology.validation import validate

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["TOPOLOGIES", "Edges", "MatrixTopology", "Topology", "build_topology", "validate"]


def build_topology(
    topology: str | type[Topology] | Topology | nx.Graph,
    world_size: int | None = None,
    *,
    steps_per_epoch: int | None = None,
    **options: Any,
) -> Topology:
    """Return a topology over ``world_size`` workers.

    Args:
        topology: a registered name, a Topology class, a networkx graph over the nodes 0..n-1, or a finished Topology.
        world_size: number of workers; may be left out where ``topology`` knows it.
        steps_per_epoch: optimizer steps in an epoch, for schedules that count epochs; ignored by all others.
        options: the fields of the topology's dataclass.

    Raises:
        ConfigurationError: unknown name or option, or the topology cannot exist for that many workers.
    """
    if isinstance(topology, Topology):
        if world_size not in (None, topology.world_size):
            raise ConfigurationError(f"the topology is over {topology.world_size} workers, not {world_size}")
        if options:
            raise ConfigurationError(
                f"{', '.join(options)}: options go with a topology's name, not with a finished one"
            )
        built = topology
    elif isinstance(topology, str):
        built = TOPOLOGIES.build(topology, world_size=_needed(world_size, topology), **options)
    elif isinstance(topology, type):
        built = topology(_needed(world_size, topology.__name__), **options)
    elif hasattr(topology, "nodes"):
        n = len(topology) if world_size is None else world_size
        built = TOPOLOGIES.build("custom", world_size=n, graph=topology, **options)
    else:
        raise ConfigurationError(f"a topology is a name, a class or a networkx graph, not {topology!r}")
    if steps_per_epoch is not None and "steps_per_epoch" in {field.name for field in dataclasses.fields(built)}:
        built = dataclasses.replace(built, **{"steps_per_epoch": steps_per_epoch})
    return built


def _needed(world_size: int | None, name: str) -> int:
    if world_size is None:
        raise ConfigurationError(f"topology '{name}' needs a world_size")
    return world_size
