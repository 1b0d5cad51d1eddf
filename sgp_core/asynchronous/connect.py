"""The network of an asynchronous rule: over shared memory where all workers are on one host, else over messages."""

from __future__ import annotations

import torch.distributed as dist

from sgp_core.algorithms.base import OneSided
from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.asynchronous.messages.carrier import MessageCarrier
from sgp_core.asynchronous.messages.lossy_mailboxes import LossyMailboxes
from sgp_core.asynchronous.messages.mailboxes import MessageMailboxes
from sgp_core.asynchronous.messages.open_models import MessageOpenModels
from sgp_core.asynchronous.network import AsynchronousNetwork
from sgp_core.asynchronous.pairwise import PairwiseNetwork
from sgp_core.asynchronous.push_sum import PushSumNetwork
from sgp_core.asynchronous.shared_memory.mailboxes import SharedMailboxes
from sgp_core.asynchronous.shared_memory.open_models import SharedOpenModels
from sgp_core.distributed.host_memory import TransportUnavailable
from sgp_core.errors import ConfigurationError
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology import Topology
from sgp_core.transports.registry import AUTO, find_transport
from sgp_core.transports.select import unavailable


def connect(
    way: OneSided,
    topology: Topology,
    group: dist.ProcessGroup | None,
    params: FlatVector,
    wanted: str = AUTO,
    *,
    record_events: bool = False,
    faults: LinkFaults | None = None,
    retransmits: bool = False,
) -> AsynchronousNetwork:
    """Return the network of an algorithm's way to communicate, ready for its first step. Collective.

    Args:
        way: of the algorithm.
        topology: who sends to whom.
        group: of all workers.
        params: the model's parameters, alike on all workers.
        wanted: the transport, the same on every worker; ``auto`` is ``shared_memory`` where that is possible.
        record_events: whether to record what was used when.
        faults: of the links between workers; None: none. Models then travel as messages.
        retransmits: whether shares that travel as messages are sent again until they are acknowledged.

    Raises:
        ConfigurationError: on all workers alike, if some compute on a GPU or the transport is not available.
    """
    if wanted != AUTO:
        find_transport(wanted)
    alone = topology.world_size == 1
    on_cpu = [all(tensor.device.type == "cpu" for tensor in params.tensors)] * topology.world_size
    if not alone:
        dist.all_gather_object(on_cpu, on_cpu[0], group=group)
    if not all(on_cpu):
        raise ConfigurationError("asynchronous algorithms run on the CPU; use osgp on GPUs")
    if alone or (faults is None and wanted != MessageCarrier.name):
        try:
            return _over_shared_memory(way, topology, group, params, record_events)
        except TransportUnavailable as reason:
            if wanted != AUTO:
                raise unavailable(wanted, reason) from None
    if way is OneSided.mailbox:
        lossy = faults is not None or retransmits
        mailboxes = (
            LossyMailboxes(group, params, faults, retransmits=retransmits) if lossy else MessageMailboxes(group, params)
        )
        return PushSumNetwork(topology, group, params, mailboxes, record_events=record_events)
    return PairwiseNetwork(topology, group, params, MessageOpenModels(group, params), record_events=record_events)


def _over_shared_memory(
    way: OneSided, topology: Topology, group: dist.ProcessGroup | None, params: FlatVector, record_events: bool
) -> AsynchronousNetwork:
    if way is OneSided.mailbox:
        mailboxes = SharedMailboxes(group, params, topology)
        return PushSumNetwork(topology, group, params, mailboxes, record_events=record_events)
    return PairwiseNetwork(topology, group, params, SharedOpenModels(group, params), record_events=record_events)
