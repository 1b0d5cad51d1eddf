"""What is known of symmetric memory before any worker exists. Imports without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgp_core.transports.registry import HostCount, Placement, TransportKind, register_transport

if TYPE_CHECKING:
    from sgp_core.distributed.model_shard import ModelShard
    from sgp_core.transports.base import Transport


@register_transport("symmetric_memory")
class SymmetricMemoryKind(TransportKind):
    """GPUs of one host that write each other's memory."""

    summary = "The GPUs of one host write models into each other's memory."
    priority = 40
    devices = ("cuda",)
    hosts = HostCount.one

    def place(self, request: Placement) -> tuple[ModelShard, Transport]:
        """Move the parameters to flat memory of this worker's GPU."""
        from sgp_core.transports.symmetric_memory.placement import place

        return place(request)
