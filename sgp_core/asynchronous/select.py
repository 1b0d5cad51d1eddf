"""What carries the vectors of workers that wait for nobody: shared memory where all are on one host, else messages."""

from __future__ import annotations

import torch.distributed as dist

from sgp_core.algorithms.base import OneSided
from sgp_core.asynchronous.messages.pairwise import MessagePairs
from sgp_core.asynchronous.messages.push_sum import MessageMailboxes
from sgp_core.asynchronous.network import AsynchronousNetwork
from sgp_core.asynchronous.shared_memory.carrier import SharedMailboxes, SharedPairs
from sgp_core.distributed.host_memory import TransportUnavailable
from sgp_core.errors import ConfigurationError
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology
from sgp_core.transports.select import AUTO, check_transport_name, unavailable

_SHARED: dict[OneSided, type[AsynchronousNetwork]] = {OneSided.mailbox: SharedMailboxes, OneSided.pairs: SharedPairs}
_BY_MESSAGE: dict[OneSided, type[AsynchronousNetwork]] = {
    OneSided.mailbox: MessageMailboxes,
    OneSided.pairs: MessagePairs,
}


def connect(
    way: OneSided,
    topology: Topology,
    group: dist.ProcessGroup | None,
    params: FlatVector,
    wanted: str = AUTO,
    *,
    record_events: bool = False,
) -> AsynchronousNetwork:
    """Return the network of an algorithm's way to communicate. Collective.

    Args:
        way: of the algorithm.
        topology: who talks to whom.
        group: of all workers.
        params: the model's parameters.
        wanted: the transport, the same on every worker; ``auto`` is ``shared_memory`` where that can be.
        record_events: whether to remember what was used when.

    Raises:
        ConfigurationError: on all workers alike, if some compute on a GPU or the transport wanted cannot be.
    """
    check_transport_name(wanted)
    alone = topology.world_size == 1
    on_cpu = [all(tensor.device.type == "cpu" for tensor in params.tensors)] * topology.world_size
    if not alone:
        dist.all_gather_object(on_cpu, on_cpu[0], group=group)
    if not all(on_cpu):
        raise ConfigurationError("algorithms whose workers wait for nobody run on the CPU; use osgp on GPUs")
    if alone or wanted != MessageMailboxes.medium:
        try:
            return _SHARED[way](topology, group, params, record_events=record_events)
        except TransportUnavailable as reason:
            if wanted != AUTO:
                raise unavailable(wanted, reason) from None
    return _BY_MESSAGE[way](topology, group, params, record_events=record_events)
