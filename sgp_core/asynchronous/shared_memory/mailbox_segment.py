"""Mailboxes in memory that the workers of one host share: each worker owns one, and the others write into it."""

from __future__ import annotations

import fcntl

import numpy as np
import torch.distributed as dist

from sgp_core.distributed.host_memory import TOKEN_BYTES, HostSegment, TransportUnavailable, map_segments
from sgp_core.distributed.process_group import gather_objects
from sgp_core.tensors.flat_vector import FlatVector

_ALIGNMENT = 64
_OWNER = 1 << 40
"""The byte that the owner keeps locked as long as it lives; far behind those of the slots."""


class MailboxSegment:
    """One worker's mailbox, as its owner or as a peer sees it: a few words, and several slots of one vector each.

    The kernel's record locks guard the slots, one byte each: a lock is taken without waiting or not at all, and the
    kernel releases it if its holder dies. Pages cost memory once they are written, so unused slots are free.

    Args:
        segment: the memory, mapped with ``keep_open``, of the size that :func:`map_mailboxes` gives it.
        like: a vector of the model's layout.
        world_size: number of workers.
        slots: number of slots.

    Attributes:
        weights: PushSum weight in each slot, ``[slots]``; 0 where a slot is empty.
        steps: the step at which each sender wrote to a slot, ``[slots, n]``; -1 where it did not.
        collected: how many messages of each sender the owner has collected, ``[n]``.
        vectors: the vectors of the slots.
    """

    def __init__(self, segment: HostSegment, like: FlatVector, world_size: int, slots: int) -> None:
        self.slots = slots
        self._segment = segment
        words, starts, _ = _layout(like, world_size, slots)
        header = np.frombuffer(segment.memory, np.int64, words, TOKEN_BYTES)
        self._words, self.collected, table = np.split(header, [4, 4 + world_size])
        weights, steps = np.split(table, [slots])
        self.weights = weights.view(np.float64)
        self.steps = steps.reshape(slots, world_size)
        pieces = [
            segment.tensor(start, tensor.numel(), tensor.dtype)
            for start, tensor in zip(starts, like.tensors * slots, strict=True)
        ]
        per_slot = len(like.tensors)
        self.vectors = [FlatVector(pieces[s * per_slot : (s + 1) * per_slot]) for s in range(slots)]

    # -- words ---------------------------------------------------------------------------------------------------------
    @property
    def pushed(self) -> int:
        """The number of steps at which the owner has pushed."""
        return int(self._words[0])

    @pushed.setter
    def pushed(self, steps: int) -> None:
        self._words[0] = steps

    @property
    def version(self) -> int:
        """The number of changes of the model in slot 0."""
        return int(self._words[1])

    @version.setter
    def version(self, version: int) -> None:
        self._words[1] = version

    @property
    def meeting_requested(self) -> bool:
        """Whether a worker has asked the owner for a meeting."""
        return bool(self._words[2])

    @meeting_requested.setter
    def meeting_requested(self, requested: bool) -> None:
        self._words[2] = requested

    @property
    def standing(self) -> bool:
        """Whether the owner waits for a meeting and accepts no messages."""
        return bool(self._words[3])

    @standing.setter
    def standing(self, standing: bool) -> None:
        self._words[3] = standing

    # -- locks ---------------------------------------------------------------------------------------------------------
    def lock(self, slot: int, *, wait: bool = False) -> bool:
        """Take the lock of a slot; return whether it was free. With ``wait``, wait until it is."""
        try:
            fcntl.lockf(self._segment.fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except BlockingIOError:
            return False
        return True

    def unlock(self, slot: int) -> None:
        """Release the lock of a slot."""
        fcntl.lockf(self._segment.fd, fcntl.LOCK_UN, 1, slot)

    def claim(self) -> None:
        """Reset the mailbox, and keep it locked as its owner's."""
        self.steps.fill(-1)
        self.lock(_OWNER)

    @property
    def deserted(self) -> bool:
        """Whether the owner has closed the mailbox or died. For peers to ask."""
        if self.lock(_OWNER):
            self.unlock(_OWNER)
            return True
        return False

    def close(self) -> None:
        """Give up all locks; an owner's peers find the mailbox :attr:`deserted`."""
        self._segment.close_file()

    # -- messages ------------------------------------------------------------------------------------------------------
    def put(self, sender: int, step: int, x: FlatVector, share: float, weight: float) -> None:
        """Add ``share * x`` and ``share * weight`` to the first slot that is not locked.

        There always is one: there is a slot for every sender and one for the owner, and each locks one at a time.
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
            self.steps[slot, sender] = step
        finally:
            self.unlock(slot)

    def take(self, x: FlatVector, *, wait: bool) -> tuple[float, tuple[tuple[int, int], ...]]:
        """Add all slots to ``x`` and empty them; those that a sender has locked, only with ``wait``.

        Returns:
            The sum of the slots' weights; and of each message its sender and its step.
        """
        total, messages = 0.0, []
        for slot in range(self.slots):
            if self.weights[slot] == 0.0 or not self.lock(slot, wait=wait):
                continue
            try:
                x.add_(self.vectors[slot])
                total += float(self.weights[slot])
                for sender in np.flatnonzero(self.steps[slot] >= 0).tolist():
                    messages.append((sender, int(self.steps[slot, sender])))
                    self.steps[slot, sender] = -1
                    self.collected[sender] += 1
                self.weights[slot] = 0.0
            finally:
                self.unlock(slot)
        return total, tuple(messages)


def map_mailboxes(like: FlatVector, group: dist.ProcessGroup | None, slots: int) -> list[MailboxSegment]:
    """Make a mailbox on every worker, and map those of all workers; return them by rank. Collective.

    Args:
        like: a vector of the model's layout.
        group: the process group, None for the default one; without torch.distributed, a world of one.
        slots: number of slots of each mailbox, the same on every worker.

    Raises:
        TransportUnavailable: on all workers alike, if they do not all share memory.
    """
    rank, world_size = (dist.get_rank(group), dist.get_world_size(group)) if dist.is_initialized() else (0, 1)
    _, _, nbytes = _layout(like, world_size, slots)
    segments, hosts, obstacle = map_segments(nbytes, group, keep_open=True)
    if len(hosts) > 1:
        raise TransportUnavailable(obstacle)
    mailboxes = [MailboxSegment(segments[other], like, world_size, slots) for other in range(world_size)]
    mailboxes[rank].claim()
    gather_objects(None, group)  # no worker looks at a mailbox before its owner has claimed it
    return mailboxes


def _layout(like: FlatVector, world_size: int, slots: int) -> tuple[int, list[int], int]:
    """Return the number of words, the offset in bytes of each piece of each slot, and the size of a segment."""
    words = 4 + world_size + slots * (1 + world_size)
    end = TOKEN_BYTES + _align(8 * words)
    starts = []
    for _ in range(slots):
        for tensor in like.tensors:
            starts.append(end)
            end = _align(end + tensor.numel() * tensor.element_size())
    return words, starts, end


def _align(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
