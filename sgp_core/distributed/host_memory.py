"""Memory that the workers of one host map: anonymous files, so that nothing is left behind whatever is killed."""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.process_group import gather_objects

TOKEN_BYTES = 64
"""At the start of every segment, a random number by which others know that they have opened the right one."""


class TransportUnavailable(Exception):
    """Workers that cannot map each other's memory; says why."""


class _SegmentAddress(NamedTuple):
    """How others find a segment and its owner."""

    host: str
    pid: int
    started: int
    fd: int
    nbytes: int
    token: bytes


class HostSegment:
    """One worker's memory, mapped here: zero, and used only from where it is written to."""

    def __init__(self, fd: int, note: _SegmentAddress) -> None:
        self.pid, self._started = note.pid, note.started
        self.memory = mmap.mmap(fd, note.nbytes)

    def tensor(self, offset: int, size: int, dtype: torch.dtype) -> Tensor:
        """Return ``size`` elements from byte ``offset`` on."""
        if size == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self.memory, dtype=dtype, count=size, offset=offset)

    def owner_lives(self) -> bool:
        """Whether the process that made it is still there and can still act."""
        return _started(self.pid) == self._started


Hosts = tuple[tuple[int, ...], ...]
"""All workers by rank, those together that can map each other's memory, whatever keeps the others from it."""


class MappedSegments(NamedTuple):
    """What :func:`map_segments` finds.

    Attributes:
        segments: those of the workers of this worker's host, by rank.
        hosts: the same on all workers.
        why: it is not one host, the same on all workers; empty if it is.
    """

    segments: dict[int, HostSegment]
    hosts: Hosts
    why: str


def map_segments(nbytes: int, group: dist.ProcessGroup | None) -> MappedSegments:
    """Make a segment on every worker, and map those of the workers of one host. Collective.

    Workers that cannot all map each other, such as those of several users, are hosts of their own; so are all, without
    segments, if one cannot make any.
    """
    fd, note, why = -1, None, ""
    rank = dist.get_rank(group)
    opened: dict[int, HostSegment] = {}
    try:
        try:
            fd, note = _create(nbytes)
        except (AttributeError, OSError) as error:
            why = f"this system cannot make memory to share ({error})"
        notes = gather_objects(note, group)
        for other, theirs in enumerate(notes if all(notes) else ()):
            try:
                opened[other] = HostSegment(fd, theirs) if other == rank else _opened(theirs, other, rank)
            except (TransportUnavailable, OSError, ValueError) as error:
                why = why or str(error)
        found = gather_objects((tuple(opened), why), group)  # from here on all have opened all that they can
    finally:
        if fd >= 0:
            os.close(fd)  # the mappings keep the memory
    hosts = _hosts([reached for reached, _ in found])
    here = next(host for host in hosts if rank in host)
    why = next((reason for _, reason in found if reason), "")
    return MappedSegments({other: segment for other, segment in opened.items() if other in here}, hosts, why)


def _hosts(reached: list[tuple[int, ...]]) -> Hosts:
    """Put together the workers that reach each other and nobody else."""
    together = [
        ranks if rank in ranks and all(reached[other] == ranks for other in ranks) else (rank,)
        for rank, ranks in enumerate(reached)
    ]
    return tuple(sorted(set(together)))


def _create(nbytes: int) -> tuple[int, _SegmentAddress]:
    fd = os.memfd_create("sgp")
    os.ftruncate(fd, nbytes)
    token = secrets.token_bytes(TOKEN_BYTES)
    os.pwrite(fd, token, 0)
    pid = os.getpid()
    return fd, _SegmentAddress(host_id(), pid, _started(pid), fd, nbytes, token)


def _opened(note: _SegmentAddress, rank: int, mine: int) -> HostSegment:
    if note.host != host_id():
        raise TransportUnavailable(f"worker {rank} is on another host than worker {mine}")
    path = f"/proc/{note.pid}/fd/{note.fd}"
    unreachable = f"worker {mine} cannot open the memory of worker {rank}"
    try:
        ours = os.readlink(path).startswith("/memfd:sgp")  # in another pid namespace the number is somebody else's
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC) if ours else -1
    except OSError as error:
        raise TransportUnavailable(f"{unreachable} ({error.strerror})") from None
    if fd < 0:
        raise TransportUnavailable(unreachable)
    try:
        if os.pread(fd, TOKEN_BYTES, 0) != note.token:
            raise TransportUnavailable(unreachable)
        return HostSegment(fd, note)
    finally:
        os.close(fd)


def host_id() -> str:
    """Return what only processes under one running kernel have in common."""
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _started(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot; -1 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in "ZX" else int(fields[19])
