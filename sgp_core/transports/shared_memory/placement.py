"""Parameters moved to memory that the workers of a host share."""

from __future__ import annotations

from sgp_core.distributed.counters import SharedCounters
from sgp_core.distributed.host_memory import TransportUnavailable
from sgp_core.distributed.model_shard import FlatModelShard, ModelShard, is_sharded
from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.transports.registry import Placement
from sgp_core.transports.shared_memory.transport import SharedMemoryTransport, send_buffer_count


def place(request: Placement) -> tuple[ModelShard, SharedMemoryTransport]:
    """Move the parameters to memory that all workers share. Collective.

    Raises:
        TransportUnavailable: on all workers alike, if they do not all share memory.
    """
    counters = share_counters(request)
    if len(counters.hosts) > 1:
        raise TransportUnavailable(counters.obstacle)
    transport = SharedMemoryTransport(counters, request.steps_in_flight)
    return FlatModelShard(FlatStorage(request.parameters, transport.allocate), request.node), transport


def share_counters(request: Placement) -> SharedCounters:
    """Return the counters of the workers of every host. Collective.

    Raises:
        TransportUnavailable: on all workers alike, if the model cannot live in memory that workers share.
    """
    if request.node.size > 1 or any(is_sharded(parameter) for parameter in request.parameters):
        raise TransportUnavailable("node groups exchange shards of the model by messages")
    device = next((parameter.device for parameter in request.parameters if parameter.device.type != "cpu"), None)
    if device is not None:
        raise TransportUnavailable(f"the parameters are on {device}, not in CPU memory")
    return SharedCounters(request.node.peers, send_buffer_count(request.steps_in_flight))
