"""Memory that the workers of one host share: each owns one segment, and the others reach into it without asking.

A segment is a few words and several slots of one vector each. Segments have no name (``memfd``): peers open them
through ``/proc``, and they are gone with the last process that has them, however it ends.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
import weakref

import numpy as np
import torch

from sgp_core.tensors.flat_vector import FlatVector

_ALIGNMENT = 64
_OWNER = 1 << 40
"""The byte that the owner holds locked for as long as it lives; far behind those of the slots."""


class MailboxSegment:
    """One worker's segment, as its owner or as a peer sees it.

    Slots are guarded by the kernel's record locks, one byte a slot: taken without waiting or not at all, and released
    by the kernel if the holder dies. Pages cost memory once they are written, so slots that nobody needs are free.

    Attributes:
        weights: PushSum weight in each slot, ``[slots]``; 0 where a slot is empty.
        steps: the step at which each sender left what is in a slot, ``[slots, n]``; -1 where it left nothing.
        times: the moments (``time.monotonic``, which processes of one machine share) at which it did, ``[slots, n]``.
        collected: how many messages of each sender the owner has collected, ``[n]``.
        vectors: the slots' vectors.
        fd: the open file.
    """

    def __init__(self, fd: int, like: FlatVector, world_size: int, slots: int) -> None:
        self.fd = fd
        self.slots = slots
        self._close = weakref.finalize(self, os.close, fd)
        words = 4 + world_size + slots * (1 + 2 * world_size)
        size = _aligned(8 * words)
        starts = []
        for _ in range(slots):
            for tensor in like.tensors:
                starts.append(size)
                size = _aligned(size + tensor.numel() * tensor.element_size())
        if os.fstat(fd).st_size < size:
            os.ftruncate(fd, size)
        memory = mmap.mmap(fd, size)
        header = np.frombuffer(memory, np.int64, words)
        self._words, self.collected, table = np.split(header, [4, 4 + world_size])
        weights, steps, times = np.split(table, [slots, slots * (1 + world_size)])
        self.weights = weights.view(np.float64)
        self.steps = steps.reshape(slots, world_size)
        self.times = times.view(np.float64).reshape(slots, world_size)
        pieces = [
            torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=start)
            for start, tensor in zip(starts, like.tensors * slots, strict=True)
        ]
        per_slot = len(like.tensors)
        self.vectors = [FlatVector(pieces[s * per_slot : (s + 1) * per_slot]) for s in range(slots)]

    @classmethod
    def make(cls, like: FlatVector, world_size: int, slots: int) -> MailboxSegment:
        """Make a segment of this process's own: zeros, nothing in any slot."""
        segment = cls(os.memfd_create("sgp-mailbox"), like, world_size, slots)
        segment.steps.fill(-1)
        fcntl.lockf(segment.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _OWNER)
        return segment

    @classmethod
    def open(cls, pid: int, fd: int, like: FlatVector, world_size: int, slots: int) -> MailboxSegment:
        """Open the segment that process ``pid`` has made as ``fd``.

        Raises:
            OSError: there is no such file, or it belongs to somebody else.
        """
        return cls(os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR), like, world_size, slots)

    # -- words ---------------------------------------------------------------------------------------------------------
    @property
    def pushed(self) -> int:
        """The steps at which the owner has pushed."""
        return int(self._words[0])

    @pushed.setter
    def pushed(self, steps: int) -> None:
        self._words[0] = steps

    @property
    def version(self) -> int:
        """How often the model in slot 0 has changed."""
        return int(self._words[1])

    @version.setter
    def version(self, version: int) -> None:
        self._words[1] = version

    @property
    def called(self) -> bool:
        """Whether somebody wants the owner to come and meet."""
        return bool(self._words[2])

    @called.setter
    def called(self, called: bool) -> None:
        self._words[2] = called

    @property
    def standing(self) -> bool:
        """Whether the owner stands still until all have met."""
        return bool(self._words[3])

    @standing.setter
    def standing(self, standing: bool) -> None:
        self._words[3] = standing

    # -- locks ---------------------------------------------------------------------------------------------------------
    def lock(self, slot: int, *, wait: bool = False) -> bool:
        """Take a slot; return whether it was free. With ``wait`` stay until whoever has it has copied its vector."""
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except BlockingIOError:
            return False
        return True

    def unlock(self, slot: int) -> None:
        """Give a slot back."""
        fcntl.lockf(self.fd, fcntl.LOCK_UN, 1, slot)

    @property
    def deserted(self) -> bool:
        """Whether the owner has closed it or died. For peers to ask."""
        if self.lock(_OWNER):
            self.unlock(_OWNER)
            return True
        return False

    def close(self) -> None:
        """Let go; an owner's peers are told by :attr:`deserted`."""
        self._close()

    # -- mail ----------------------------------------------------------------------------------------------------------
    def put(self, sender: int, step: int, x: FlatVector, share: float, weight: float) -> None:
        """Add ``share * x`` and ``share * weight`` to the first slot that nobody holds.

        With a slot for every sender and one for the owner, who each hold one at a time, there always is one.
        """
        slot = 0
        while not self.lock(slot):
            slot = (slot + 1) % self.slots
        try:
            vector = self.vectors[slot]
            if self.weights[slot] == 0.0:
                vector.copy_(x).mul_(share)
            else:
                vector.add_(x, share)
            self.weights[slot] += share * weight
            self.times[slot, sender] = time.monotonic()
            self.steps[slot, sender] = step
        finally:
            self.unlock(slot)

    def take(self, x: FlatVector, *, wait: bool) -> tuple[float, list[tuple[int, int, float]]]:
        """Add all slots to ``x`` and empty them; those that somebody holds, only with ``wait``.

        Returns:
            The weight that was there; of each message its sender, its step, and its age in seconds.
        """
        total, messages = 0.0, []
        for slot in range(self.slots):
            if self.weights[slot] == 0.0 or not self.lock(slot, wait=wait):
                continue
            try:
                x.add_(self.vectors[slot])
                total += float(self.weights[slot])
                now = time.monotonic()
                for sender in np.flatnonzero(self.steps[slot] >= 0).tolist():
                    messages.append((sender, int(self.steps[slot, sender]), now - float(self.times[slot, sender])))
                    self.steps[slot, sender] = -1
                    self.collected[sender] += 1
                self.weights[slot] = 0.0
            finally:
                self.unlock(slot)
        return total, messages


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
