"""What is known of shared memory before any worker exists. Imports without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgp_core.transports.registry import HostCount, Placement, TransportKind, register_transport

if TYPE_CHECKING:
    from sgp_core.distributed.model_shard import ModelShard
    from sgp_core.transports.base import Transport


@register_transport("shared_memory")
class SharedMemoryKind(TransportKind):
    """Memory that all workers of one host map."""

    summary = "Models lie in memory that the CPU workers of one host share, and are mixed in place."
    priority = 30
    devices = ("cpu",)
    hosts = HostCount.one
    asynchronous = True

    def place(self, request: Placement) -> tuple[ModelShard, Transport]:
        """Move the parameters to memory that all workers share."""
        from sgp_core.transports.shared_memory.placement import place

        return place(request)
