"""What is known of point-to-point messages before any worker exists. Imports without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgp_core.transports.registry import Placement, TransportKind, register_transport

if TYPE_CHECKING:
    from sgp_core.distributed.model_shard import ModelShard
    from sgp_core.transports.base import Transport


@register_transport("p2p")
class P2PKind(TransportKind):
    """Messages of torch.distributed."""

    summary = "Models travel as messages of torch.distributed, by gloo or NCCL."
    priority = 0
    node_groups = True
    asynchronous = True

    def place(self, request: Placement) -> tuple[ModelShard, Transport]:
        """Move the parameters to flat memory of this process alone."""
        from sgp_core.distributed.model_shard import place_in_flat_memory
        from sgp_core.transports.p2p.transport import P2PTransport

        shard = place_in_flat_memory(request.model, request.parameters, request.node)
        return shard, P2PTransport(shard.flat, request.node.peers, request.steps_in_flight)
