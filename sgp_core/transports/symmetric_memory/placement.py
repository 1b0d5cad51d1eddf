"""Parameters moved to flat memory of GPUs that write each other's memory."""

from __future__ import annotations

import torch

from sgp_core.distributed.counters import SharedCounters
from sgp_core.distributed.host_memory import TransportUnavailable
from sgp_core.distributed.model_shard import ModelShard, place_in_flat_memory
from sgp_core.transports.registry import Placement
from sgp_core.transports.symmetric_memory.cuda_peer_memory import CudaPeerMemory
from sgp_core.transports.symmetric_memory.transport import SymmetricMemoryTransport
from sgp_core.transports.symmetric_memory.weight_exchange import HostWeightExchange


def place(request: Placement) -> tuple[ModelShard, SymmetricMemoryTransport]:
    """Move the parameters to flat memory of this worker's GPU. Collective.

    Raises:
        TransportUnavailable: on all workers alike, if any GPU cannot write the memory of any other.
    """
    node, steps_in_flight = request.node, request.steps_in_flight
    if node.size > 1:
        raise TransportUnavailable("node groups exchange shards of the model by messages")
    devices = sorted({str(parameter.device) for parameter in request.parameters})
    device = request.parameters[0].device
    if len(devices) > 1 or device.type != "cuda":
        raise TransportUnavailable(f"the parameters are on {' and '.join(devices)}, not on one NVIDIA GPU")
    with torch.cuda.device(device):
        fabric = CudaPeerMemory(device, node.peers)
        slots = 2 * steps_in_flight + 4  # a worker is never further ahead of those it sends to
        counters = SharedCounters(node.peers, slots, device)
        if counters.obstacle:
            raise TransportUnavailable(counters.obstacle)
        weights = HostWeightExchange(counters, slots)
        shard = place_in_flat_memory(request.model, request.parameters, node)
        return shard, SymmetricMemoryTransport(shard.flat, fabric, weights, node.count, steps_in_flight)
