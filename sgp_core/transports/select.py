"""Which transport carries a model: the one asked for, or the fastest there can be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sgp_core.distributed.host_memory import TransportUnavailable
from sgp_core.distributed.model_shard import FlatModelShard, FSDPModelShard, ModelShard, is_sharded
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.transports.base import Transport
from sgp_core.transports.hierarchical.transport import HierarchicalTransport
from sgp_core.transports.p2p.transport import P2PTransport
from sgp_core.transports.shared_memory.counters import SharedCounters
from sgp_core.transports.shared_memory.transport import SharedMemoryTransport, send_buffer_count
from sgp_core.transports.symmetric_memory.cuda_peer_memory import CudaPeerMemory
from sgp_core.transports.symmetric_memory.transport import SymmetricMemoryTransport
from sgp_core.transports.symmetric_memory.weight_exchange import HostWeightExchange

AUTO = "auto"
TRANSPORTS = (
    AUTO,
    P2PTransport.name,
    SharedMemoryTransport.name,
    SymmetricMemoryTransport.name,
    HierarchicalTransport.name,
)


def place_model(
    model: nn.Module, parameters: Sequence[nn.Parameter], wanted: str, node: NodeGroup, steps_in_flight: int
) -> tuple[ModelShard, Transport | None]:
    """Move the parameters into flat memory, where the transport can use it, and return both. Collective.

    Args:
        model: whose parameters they are.
        wanted: one of ``TRANSPORTS``, the same on every worker; ``auto`` is, between CPUs, ``shared_memory`` where that
            can be, else ``mixed`` where that can be; between GPUs ``symmetric_memory``; else ``p2p``.
        node: of the worker; groups of several workers use messages.
        steps_in_flight: of the algorithm.

    Raises:
        ConfigurationError: on all workers alike, if the transport wanted cannot be, or if the model is sharded, but
            not over the workers of the node.
    """
    check_transport_name(wanted)
    if node.count > 1 and wanted in (AUTO, SharedMemoryTransport.name, HierarchicalTransport.name):
        try:
            return _in_memory(parameters, wanted, node, steps_in_flight)
        except TransportUnavailable as reason:
            if wanted != AUTO:
                raise unavailable(wanted, reason) from None
    share: ModelShard
    if any(is_sharded(parameter) for parameter in parameters):
        share = FSDPModelShard(model, parameters, node)
    else:
        share = FlatModelShard(FlatStorage(parameters, parts=node.size), node)
    if node.count == 1:
        return share, None
    if wanted in (AUTO, SymmetricMemoryTransport.name):
        try:
            return share, _symmetric(share.flat, node, steps_in_flight)
        except TransportUnavailable as reason:
            if wanted != AUTO:
                raise unavailable(wanted, reason) from None
    return share, P2PTransport(share.flat, node.peers, steps_in_flight)


def check_transport_name(wanted: str) -> None:
    """Refuse what is no transport.

    Raises:
        ConfigurationError: naming those there are.
    """
    if wanted not in TRANSPORTS:
        raise ConfigurationError(f"unknown transport '{wanted}'{did_you_mean(wanted, TRANSPORTS)}")


def unavailable(wanted: str, reason: TransportUnavailable) -> ConfigurationError:
    """Return the error for a transport that cannot be."""
    return ConfigurationError(f"transport '{wanted}' cannot be: {reason}; p2p can")


def _in_memory(
    parameters: Sequence[nn.Parameter], wanted: str, node: NodeGroup, steps_in_flight: int
) -> tuple[ModelShard, Transport]:
    """Do so with memory that all workers share, or those of a host."""
    if node.size > 1 or any(is_sharded(parameter) for parameter in parameters):
        raise TransportUnavailable("node groups exchange shards of the model by messages")
    elsewhere = next((parameter.device for parameter in parameters if parameter.device.type != "cpu"), None)
    if elsewhere is not None:
        raise TransportUnavailable(f"the parameters are on {elsewhere}, not in CPU memory")
    board = SharedCounters(node.peers, send_buffer_count(steps_in_flight))
    kind = _kind_for(board, wanted)
    transport = kind(board, steps_in_flight)
    return FlatModelShard(FlatStorage(parameters, transport.allocate), node), transport


def _kind_for(board: SharedCounters, wanted: str) -> type[SharedMemoryTransport] | type[HierarchicalTransport]:
    one_host = len(board.hosts) == 1
    if one_host and wanted == HierarchicalTransport.name:
        raise TransportUnavailable("all workers are on one host, for shared_memory")
    if not one_host and wanted == SharedMemoryTransport.name:
        raise TransportUnavailable(board.why)
    if all(len(host) == 1 for host in board.hosts):
        raise TransportUnavailable(f"no two workers share memory: {board.why}")
    return SharedMemoryTransport if one_host else HierarchicalTransport


def _symmetric(flat: FlatVector, node: NodeGroup, steps_in_flight: int) -> Transport:
    if node.size > 1:
        raise TransportUnavailable("node groups exchange shards of the model by messages")
    devices = {tensor.device for tensor in flat.tensors}
    device = devices.pop()
    if devices or device.type != "cuda":
        raise TransportUnavailable(
            f"the parameters are on {' and '.join(map(str, [device, *devices]))}, not on one NVIDIA GPU"
        )
    with torch.cuda.device(device):
        fabric = CudaPeerMemory(device, node.peers)
        slots = 2 * steps_in_flight + 4  # a worker may be so far ahead of those it sends to, and more is no use
        board = SharedCounters(node.peers, slots, device)
        if board.why:
            raise TransportUnavailable(board.why)
        weights = HostWeightExchange(board, slots)
        return SymmetricMemoryTransport(flat, fabric, weights, node.count, steps_in_flight)
