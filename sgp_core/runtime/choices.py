"""Choices as users write them: a name, a plain number, or what a ``build_...`` function has returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sgp_core.algorithms import Algorithm, build_algorithm
from sgp_core.compression import Codec, build_compression
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.pacing import Pace, build_pace
from sgp_core.topology import Topology, build_topology

if TYPE_CHECKING:
    import networkx as nx

AlgorithmChoice = Algorithm | str
TopologyChoice: TypeAlias = "Topology | type[Topology] | nx.Graph | str | None"
PaceChoice = Pace | str | int | None
CompressionChoice = Codec | str | None


def algorithm_of(choice: AlgorithmChoice) -> Algorithm:
    """Return the algorithm; of a name, with its own options.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(choice, str):
        return build_algorithm(choice)
    return _checked(Algorithm, "algorithm", "sgp", choice)


def topology_of(choice: TopologyChoice, node: NodeGroup) -> Topology:
    """Return the topology; of a name, a class or a graph for as many nodes as there are; the complete graph of None.

    Raises:
        ConfigurationError: it is none of them, or of another size.
    """
    if not isinstance(choice, Topology):
        return build_topology("complete" if choice is None else choice, world_size=node.count)
    if choice.world_size != node.count:
        made = f"the topology is made for {choice.world_size} {'workers' if node.size == 1 else 'nodes'}"
        raise ConfigurationError(f"{made}, the group has {node.count}")
    return choice


def compression_of(choice: CompressionChoice) -> Codec | None:
    """Return the codec; of a name, with its own options.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(choice, str):
        return build_compression(choice)
    return None if choice is None else _checked(Codec, "compression", "int8", choice)


def pace_of(choice: PaceChoice) -> Pace | None:
    """Return the pace; of a name, with its own options; of a number, a round of gossip after so many steps.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(choice, str):
        return build_pace(choice)
    if isinstance(choice, int) and not isinstance(choice, bool):
        return build_pace("every", steps=choice)
    return None if choice is None else _checked(Pace, "pace", "every", choice, ", steps=4")


def _checked(kind: type[Any], what: str, example: str, choice: object, options: str = "") -> Any:
    if isinstance(choice, kind):
        return choice
    raise ConfigurationError(
        f"{what} must be a name or what build_{what} returns, such as build_{what}('{example}'{options}), not"
        f" {choice if isinstance(choice, type) else type(choice)}"
    )
