"""A page of memory that says what a worker does, readable by others of its host while the worker is stopped."""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress
from typing import NamedTuple

_SLOT = struct.Struct("<q56s")
_PHASE, _PLACE = 0, _SLOT.size


class PhaseRead(NamedTuple):
    """What a page says: steps completed, what is done, and the place in which the worker waits; empty: in none."""

    steps: int
    phase: str
    place: str


class PhasePage:
    """This worker's page. A write is one copy of 64 bytes, so that a stopped worker leaves none half done.

    Attributes:
        fd: the open file, by which others of this host find it; -1 where there is no such memory.
    """

    def __init__(self) -> None:
        self.fd = -1
        self._memory: mmap.mmap | None = None
        with suppress(AttributeError, OSError):
            self.fd = os.memfd_create("sgp-phase")
            os.ftruncate(self.fd, mmap.PAGESIZE)
            self._memory = mmap.mmap(self.fd, mmap.PAGESIZE)

    def put_phase(self, steps: int, phase: str) -> None:
        """Say what is done, and how many steps are complete."""
        if self._memory is not None:
            self._memory[_PHASE : _PHASE + _SLOT.size] = _SLOT.pack(steps, phase.encode())

    def put_place(self, steps: int, place: str) -> None:
        """Say where this worker waits for others; empty: nowhere."""
        if self._memory is not None:
            self._memory[_PLACE : _PLACE + _SLOT.size] = _SLOT.pack(steps, place.encode())

    def close(self) -> None:
        """Give up the page."""
        if self._memory is not None:
            self._memory = None
            os.close(self.fd)


def read_page(pid: int, fd: int) -> PhaseRead | None:
    """Return what the page of another process of this host says; None: it cannot be read."""
    try:
        path = f"/proc/{pid}/fd/{fd}"
        if not os.readlink(path).startswith("/memfd:sgp-phase"):
            return None
        with open(path, "rb") as file:
            content = file.read(2 * _SLOT.size)
        steps, phase = _SLOT.unpack_from(content, _PHASE)
        begun, place = _SLOT.unpack_from(content, _PLACE)
        return PhaseRead(max(steps, begun), phase.rstrip(b"\0").decode(), place.rstrip(b"\0").decode())
    except (OSError, ValueError, struct.error):
        return None
