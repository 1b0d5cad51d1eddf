"""Memory that the workers of one host map. It has no name, so nothing is left behind, however a worker ends."""

from __future__ import annotations

import mmap
import os
import secrets
import weakref
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.process_group import gather_objects

TOKEN_BYTES = 64
"""At the start of every segment lies a random number, by which peers know that they have opened the right file."""


class TransportUnavailable(Exception):
    """The workers cannot use this transport; the message says why. Raised on all workers alike."""


class _SegmentAddress(NamedTuple):
    """How peers find a segment and its owner."""

    host: str
    pid: int
    start_time: int
    fd: int
    nbytes: int
    token: bytes


class HostSegment:
    """One worker's memory, mapped by this process: all zero at first. Pages cost memory once they are written.

    Attributes:
        pid: the process of its owner.
        memory: the mapping; the first ``TOKEN_BYTES`` bytes are taken.
        fd: the open file, for record locks; -1 unless the segment was mapped with ``keep_open``.
    """

    def __init__(self, fd: int, address: _SegmentAddress, *, keep_open: bool = False) -> None:
        self.pid, self._start_time = address.pid, address.start_time
        self.memory = mmap.mmap(fd, address.nbytes)  # refuses a file that is smaller than its owner said
        self.fd = os.dup(fd) if keep_open else -1
        self._close = weakref.finalize(self, os.close, self.fd) if keep_open else None

    def tensor(self, offset: int, size: int, dtype: torch.dtype) -> Tensor:
        """Return ``size`` elements from byte ``offset`` on, sharing memory."""
        if size == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self.memory, dtype=dtype, count=size, offset=offset)

    def owner_lives(self) -> bool:
        """Whether the process of the owner still runs."""
        return _start_time(self.pid) == self._start_time

    def close_file(self) -> None:
        """Close the file, which gives up all record locks; the mapping stays."""
        if self._close is not None:
            self._close()


Hosts = tuple[tuple[int, ...], ...]
"""The ranks of all workers, grouped by host: workers that can all map each other's memory."""


class MappedSegments(NamedTuple):
    """The result of :func:`map_segments`.

    Attributes:
        segments: the segments of the workers of this worker's host, by rank.
        hosts: all workers by host, the same on all workers.
        obstacle: why not all workers are on one host, the same on all workers; empty if they are.
    """

    segments: dict[int, HostSegment]
    hosts: Hosts
    obstacle: str


def map_segments(nbytes: int, group: dist.ProcessGroup | None, *, keep_open: bool = False) -> MappedSegments:
    """Make a segment on every worker, and map the segments of all workers of this host. Collective.

    Workers that cannot all map each other's memory, such as those of several users, count as hosts of their own. If
    one worker cannot make a segment, all workers do, and there are no segments.

    Args:
        nbytes: size of a segment, the same on every worker.
        group: the process group, None for the default one; without torch.distributed, a world of one.
        keep_open: whether to keep the files open, for record locks.
    """
    fd, address, obstacle = -1, None, ""
    rank = dist.get_rank(group) if dist.is_initialized() else 0
    opened: dict[int, HostSegment] = {}
    try:
        try:
            fd, address = _create(nbytes)
        except (AttributeError, OSError) as error:
            obstacle = f"worker {rank} cannot make {nbytes / 2**20:.1f} MiB of memory to share ({error})"
        addresses = gather_objects(address, group)
        for other, theirs in enumerate(addresses if all(addresses) else ()):
            try:
                if other == rank:
                    opened[other] = HostSegment(fd, theirs, keep_open=keep_open)
                else:
                    opened[other] = _open(theirs, other, rank, keep_open=keep_open)
            except (TransportUnavailable, OSError, ValueError) as error:
                obstacle = obstacle or str(error)
        reports = gather_objects((tuple(opened), obstacle), group)  # by now every worker has opened all that it can
    finally:
        if fd >= 0:
            os.close(fd)  # the mappings keep the memory
    hosts = group_by_host([ranks for ranks, _ in reports])
    here = next(host for host in hosts if rank in host)
    obstacle = next((reason for _, reason in reports if reason), "")
    return MappedSegments({other: segment for other, segment in opened.items() if other in here}, hosts, obstacle)


def group_by_host(reachable: list[tuple[int, ...]]) -> Hosts:
    """Group workers that all reach each other and no other worker.

    Args:
        reachable: for each worker the ranks whose memory it has mapped, its own among them.
    """
    groups = [
        ranks if rank in ranks and all(reachable[other] == ranks for other in ranks) else (rank,)
        for rank, ranks in enumerate(reachable)
    ]
    return tuple(sorted(set(groups)))


def _create(nbytes: int) -> tuple[int, _SegmentAddress]:
    fd = os.memfd_create("sgp")
    try:
        os.ftruncate(fd, nbytes)
        token = secrets.token_bytes(TOKEN_BYTES)
        os.pwrite(fd, token, 0)
    except OSError:
        os.close(fd)
        raise
    pid = os.getpid()
    return fd, _SegmentAddress(host_id(), pid, _start_time(pid), fd, nbytes, token)


def _open(address: _SegmentAddress, owner: int, rank: int, *, keep_open: bool) -> HostSegment:
    if address.host != host_id():
        raise TransportUnavailable(f"worker {owner} is on another host than worker {rank}")
    path = f"/proc/{address.pid}/fd/{address.fd}"
    unreachable = f"worker {rank} cannot open the memory of worker {owner}"
    try:
        # In another pid namespace the number belongs to another process.
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC) if os.readlink(path).startswith("/memfd:sgp") else -1
    except OSError as error:
        raise TransportUnavailable(f"{unreachable} ({error.strerror})") from None
    if fd < 0:
        raise TransportUnavailable(unreachable)
    try:
        if os.pread(fd, TOKEN_BYTES, 0) != address.token:
            raise TransportUnavailable(unreachable)
        return HostSegment(fd, address, keep_open=keep_open)
    finally:
        os.close(fd)


def host_id() -> str:
    """Return an identifier that all processes under one running kernel share, and no others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _start_time(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot; -1 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in "ZX" else int(fields[19])
