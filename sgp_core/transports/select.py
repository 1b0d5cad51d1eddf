"""Which transport carries a model: the one asked for, or the fastest that is available."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sgp_core.distributed.host_memory import TransportUnavailable
from sgp_core.distributed.model_shard import ModelShard, place_in_flat_memory
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.transports.base import Transport
from sgp_core.transports.registry import AUTO, Placement, find_transport, transports_by_priority


def place_model(
    model: nn.Module, parameters: Sequence[nn.Parameter], wanted: str, node: NodeGroup, steps_in_flight: int
) -> tuple[ModelShard, Transport | None]:
    """Move the parameters into flat memory, where the transport can use it, and return both. Collective.

    Args:
        model: the module whose parameters they are.
        parameters: the trainable ones.
        wanted: name or alias of a transport, the same on every worker; ``auto`` takes the first of
            :func:`~sgp_core.transports.registry.transports_by_priority` that is available.
        node: the node group of this worker.
        steps_in_flight: for how many steps the algorithm's messages may be under way.

    Returns:
        What this worker gossips of the model, and the transport; None where there is a single node.

    Raises:
        ConfigurationError: on all workers alike, if the transport is unknown or not available, or if the model is
            sharded, but not over the workers of the node.
    """
    kinds = transports_by_priority() if wanted == AUTO else [find_transport(wanted)]
    if node.count == 1:
        return place_in_flat_memory(model, parameters, node), None
    request = Placement(model, parameters, node, steps_in_flight)
    for kind in kinds:
        try:
            return kind.place(request)
        except TransportUnavailable as reason:
            if wanted != AUTO:
                raise unavailable(wanted, reason) from None
    raise ConfigurationError("no transport is available here")


def unavailable(wanted: str, reason: TransportUnavailable) -> ConfigurationError:
    """Return the error to raise where a transport that was asked for by name is not available."""
    return ConfigurationError(f"transport '{wanted}' is not available here: {reason}; use transport=p2p")
