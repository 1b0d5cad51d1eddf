"""What is known of the hierarchical transport before any worker exists. Imports without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgp_core.transports.registry import HostCount, Placement, TransportKind, register_transport

if TYPE_CHECKING:
    from sgp_core.distributed.model_shard import ModelShard
    from sgp_core.transports.base import Transport


@register_transport("hierarchical")
class HierarchicalKind(TransportKind):
    """Shared memory inside each of several hosts, messages between them."""

    aliases = ("mixed",)
    summary = "CPU workers share memory inside each of several hosts, and send messages between hosts."
    priority = 20
    devices = ("cpu",)
    hosts = HostCount.several
    min_workers_per_host = 2

    def place(self, request: Placement) -> tuple[ModelShard, Transport]:
        """Move the parameters to memory that the workers of each host share.

        Raises:
            TransportUnavailable: on all workers alike, if there is only one host, or no two workers share one.
        """
        from sgp_core.distributed.host_memory import TransportUnavailable
        from sgp_core.distributed.model_shard import FlatModelShard
        from sgp_core.tensors.flat_storage import FlatStorage
        from sgp_core.transports.hierarchical.transport import HierarchicalTransport
        from sgp_core.transports.shared_memory.placement import share_counters

        counters = share_counters(request)
        if len(counters.hosts) == 1:
            raise TransportUnavailable("all workers are on one host, which is for shared_memory")
        if all(len(host) == 1 for host in counters.hosts):
            raise TransportUnavailable(f"no two workers share memory: {counters.obstacle}")
        transport = HierarchicalTransport(counters, request.steps_in_flight)
        return FlatModelShard(FlatStorage(request.parameters, transport.allocate), request.node), transport
