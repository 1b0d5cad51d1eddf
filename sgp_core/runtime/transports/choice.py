"""Which transport carries a model: the one asked for, or the fastest there can be."""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist
from torch import nn

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.runtime.storage import FlatStorage
from sgp_core.runtime.transports.base import Transport
from sgp_core.runtime.transports.p2p import P2PTransport
from sgp_core.runtime.transports.segments import NotShared
from sgp_core.runtime.transports.shared_memory import SharedMemoryTransport

AUTO = "auto"
TRANSPORTS = (AUTO, P2PTransport.name, SharedMemoryTransport.name)


def lay_out(
    parameters: Sequence[nn.Parameter], wanted: str, group: dist.ProcessGroup | None, steps_in_flight: int
) -> tuple[FlatStorage, Transport | None]:
    """Move the parameters into flat memory, where the transport can use it, and return both. Collective.

    Args:
        wanted: one of ``TRANSPORTS``, the same on every worker; ``auto`` is ``shared_memory`` where that can be.
        steps_in_flight: of the algorithm.

    Raises:
        ConfigurationError: on all workers alike, if the transport wanted cannot be.
    """
    if wanted not in TRANSPORTS:
        raise ConfigurationError(f"unknown transport '{wanted}'{did_you_mean(wanted, TRANSPORTS)}")
    if not dist.is_initialized() or dist.get_world_size(group) == 1:
        return FlatStorage(parameters), None
    if wanted != P2PTransport.name:
        try:
            return _shared(parameters, group, steps_in_flight)
        except NotShared as reason:
            if wanted != AUTO:
                raise ConfigurationError(f"transport '{wanted}' cannot be: {reason}; p2p can") from None
    storage = FlatStorage(parameters)
    return storage, P2PTransport(storage.flat, group, steps_in_flight)


def _shared(
    parameters: Sequence[nn.Parameter], group: dist.ProcessGroup | None, steps_in_flight: int
) -> tuple[FlatStorage, Transport]:
    elsewhere = next((parameter.device for parameter in parameters if parameter.device.type != "cpu"), None)
    if elsewhere is not None:
        raise NotShared(f"the parameters are on {elsewhere}, not in CPU memory")
    transport = SharedMemoryTransport(group, steps_in_flight)
    return FlatStorage(parameters, transport.allocate), transport
