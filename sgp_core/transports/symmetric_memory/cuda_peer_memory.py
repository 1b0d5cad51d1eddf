"""GPUs of one host that map each other's memory by torch's symmetric memory."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.host_memory import TransportUnavailable, host_id
from sgp_core.distributed.process_group import gather_objects, group_timeout
from sgp_core.transports.symmetric_memory.peer_memory import StreamEvent

_OVERLAP = "TORCH_SYMM_MEM_ALLOW_OVERLAPPING_DEVICES"
"""If this is 1, torch lets several workers share a GPU, on which they take turns: for tests."""


class CudaPeerMemory:
    """A :class:`~sgp_core.transports.symmetric_memory.peer_memory.PeerMemory` of CUDA streams and signal pads.

    Args:
        device: this worker's GPU.
        group: the process group, None for the default one. Collective.

    Raises:
        TransportUnavailable: on all workers alike, if any GPU cannot write the memory of any other.
    """

    def __init__(self, device: torch.device, group: dist.ProcessGroup | None) -> None:
        self.rank = dist.get_rank(group)
        self._group = group or dist.distributed_c10d._get_default_group()
        self._device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        self._timeout_ms = int(1000 * group_timeout(group, self._device).total_seconds())
        _raise_alike(self._obstacle(), group)
        self._side = torch.cuda.Stream(self._device)
        self._test(group)

    def open(self, nbytes: int) -> CudaPeerWindow:
        """Make a window. Collective; the host waits for the other workers and for the GPU."""
        from torch._C._distributed_c10d import _SymmetricMemory
        from torch.distributed import _symmetric_memory

        # A block for each window gives it flags of its own: torch.distributed._symmetric_memory.empty allocates from a
        # pool, and what it returns may share flags.
        memory = _SymmetricMemory.empty_strided_p2p((nbytes,), (1,), torch.uint8, self._device)
        memory.zero_()
        handle = _symmetric_memory.rendezvous(memory, self._group.group_name)
        # The rendezvous writes the addresses of the peers' flags in the default stream, which the side stream does not
        # wait for.
        torch.cuda.synchronize(self._device)
        return CudaPeerWindow(memory, handle, self._timeout_ms)

    def copy(self, into: Tensor, source: Tensor) -> None:
        """Copy on the GPU."""
        into.copy_(source)

    def side_stream(self) -> AbstractContextManager[object]:
        """Use the side stream inside the block."""
        return torch.cuda.stream(self._side)

    def record_event(self) -> StreamEvent:
        """Return an event of the current stream."""
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait_event(self, event: StreamEvent) -> None:
        """Let the current stream wait for an event."""
        if event is not None:
            torch.cuda.current_stream(self._device).wait_event(event)

    def settle(self) -> None:
        """Wait for both streams."""
        self._side.synchronize()
        torch.cuda.current_stream(self._device).synchronize()

    # -- availability ------------------------------------------------------------------------------------------------
    def _obstacle(self) -> str:
        """Return why this worker cannot write the memory of another GPU, as far as torch knows. Collective."""
        properties = torch.cuda.get_device_properties(self._device)
        mine = _DeviceAddress(host_id(), self._device.index, str(getattr(properties, "uuid", "")))
        addresses: list[_DeviceAddress] = gather_objects(mine, self._group)
        try:
            from torch.distributed import _symmetric_memory
        except ImportError as error:
            return f"this build of torch has no symmetric memory ({error})"
        backend = _symmetric_memory.get_backend(self._device)
        if backend not in (None, "CUDA"):
            return f"symmetric memory of torch is set to {backend}, which has no signals between workers"
        others = {peer: address for peer, address in enumerate(addresses) if peer != self.rank}
        numbers = {torch.cuda.get_device_properties(i).uuid: i for i in range(torch.cuda.device_count())}
        visible = {str(uuid): number for uuid, number in numbers.items()}
        for peer, theirs in others.items():
            which = f"worker {peer} and worker {self.rank}"
            if theirs.host != mine.host:
                return f"{which} are on different hosts"
            if theirs.uuid == mine.uuid:
                if os.environ.get(_OVERLAP) != "1":
                    return f"{which} share a GPU"
            elif theirs.number == mine.number:
                return f"{which} each see their own GPU only, under the same number: let every worker see all of them"
            elif theirs.uuid not in visible:
                return f"worker {self.rank} does not see the GPU of worker {peer}"
            elif not torch.cuda.can_device_access_peer(self._device, visible[theirs.uuid]):
                return f"the GPU of worker {self.rank} cannot reach that of worker {peer}"
        return ""

    def _test(self, group: dist.ProcessGroup | None) -> None:
        """Let every worker write a number into the next one's memory, and read what it has received."""
        size = dist.get_world_size(group)
        window: CudaPeerWindow | None = None
        reason = ""
        try:
            window = self.open(8)
        except RuntimeError as error:
            reason = f"worker {self.rank} cannot map the memory of the other GPUs ({_first_line(error)})"
        _raise_alike(reason, group)
        assert window is not None
        after, before = (self.rank + 1) % size, (self.rank - 1) % size
        window.tensor(after, 0, 1, torch.int64).fill_(1 + self.rank)
        window.signal(after, 0)
        window.wait(before, 0)
        received = int(window.tensor(self.rank, 0, 1, torch.int64))
        lost = f"what worker {before} wrote has not reached worker {self.rank}"
        _raise_alike("" if received == 1 + before else lost, group)


class CudaPeerWindow:
    """Memory of one GPU that other workers write; it is freed with the object."""

    def __init__(self, memory: Tensor, handle: Any, timeout_ms: int) -> None:
        self._memory = memory
        self._handle = handle
        self._timeout_ms = timeout_ms

    def __del__(self) -> None:
        # The memory is unmapped at once, even if a wait for a flag in it is enqueued.
        torch.cuda.synchronize(self._memory.device)

    def tensor(self, rank: int, offset: int, size: int, dtype: torch.dtype) -> Tensor:
        """Return a part of a worker's memory."""
        part: Tensor = self._handle.get_buffer(rank, (size,), dtype, offset // dtype.itemsize)
        return part

    def signal(self, rank: int, channel: int) -> None:
        """Raise this worker's flag at ``rank``."""
        self._handle.put_signal(rank, channel, self._timeout_ms)

    def wait(self, rank: int, channel: int) -> None:
        """Let the stream wait for the flag of ``rank``; after the group's time-out, all work of the GPU fails."""
        self._handle.wait_signal(rank, channel, self._timeout_ms)


class _DeviceAddress(NamedTuple):
    """How other workers find this worker's GPU."""

    host: str
    number: int
    uuid: str


def _raise_alike(reason: str, group: dist.ProcessGroup | None) -> None:
    """Raise on all workers if one has a reason. Collective."""
    reasons = [reason for reason in gather_objects(reason, group) if reason]
    if reasons:
        raise TransportUnavailable(reasons[0])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
