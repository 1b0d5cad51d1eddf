"""Messages carry everything: for workers of any hosts. A worker's threads answer whatever its computation is doing."""

from __future__ import annotations

import time
from collections import deque
from threading import Event as Flag
from threading import Lock
from typing import Any

import torch
import torch.distributed as dist

from sgp_core.flat import Flat
from sgp_core.runtime.one_sided.lines import Kind, Line, Note, Pool, close_lines, connect_lines, patience
from sgp_core.runtime.one_sided.network import LOOK_SECONDS, Mailboxes, Pairs, Seen, WaitlessNetwork
from sgp_core.runtime.pairing import average_, update_, update_and_average_
from sgp_core.topology import Topology

_PATIENCE_SECONDS = 0.2
"""Between two looks at whether a partner still lives."""
_NOTICING_SECONDS = 2.0
"""For the threads to say who is gone, where the group says that somebody is."""


class Messages(WaitlessNetwork):
    """Lines to all other workers, and how all meet who use them.

    A meeting begins with a count of what each worker has put on each line, in the group of all. Who has received as
    much from everybody knows that nothing is under way to it any more.
    """

    medium = "p2p"

    def __init__(
        self, topology: Topology, group: dist.ProcessGroup | None, params: Flat, *, record_events: bool = False
    ) -> None:
        super().__init__(topology, group, params, record_events=record_events)
        self._called = False
        self._gone: list[tuple[int, RuntimeError]] = []
        """Who died, first to last: those after the first may have ended because of it."""
        self._pool = Pool(params)
        self._lines = connect_lines(group, self._handle, self._lose) if self.world_size > 1 else {}
        for line in self._lines.values():
            line.start()

    def call(self) -> None:
        """Ask all workers, without waiting, to come and meet."""
        if self._called:
            return  # whoever has called has called all
        self._called = True
        for line in self._lines.values():
            line.send(Kind.call)

    @property
    def called(self) -> bool:
        """Whether a worker has called since the last meeting."""
        return self._called

    def close(self) -> None:
        """Say goodbye to all. Threads go on until all have said theirs, and drop what still arrives."""
        if not self._closed:
            self._closed = True
            close_lines(self._lines)

    # -- inside --------------------------------------------------------------------------------------------------------
    def _handle(self, line: Line, note: Note) -> None:
        """Do what a message asks for, in the thread in which it has come."""
        if note.kind == Kind.call:
            self._called = True

    def _gather(self) -> None:
        mine = torch.tensor([self._lines[r].sent if r in self._lines else self._steps for r in range(self.world_size)])
        everybody = [torch.zeros_like(mine) for _ in range(self.world_size)]
        self._together(lambda: dist.all_gather(everybody, mine, group=self.group))
        until = time.monotonic() + patience(self.group).total_seconds()
        for peer, line in self._lines.items():
            while line.received < int(everybody[peer][self.rank]):
                self._reach(peer, self._steps)
                if time.monotonic() > until:
                    raise RuntimeError(
                        f"rank {self.rank} waits in vain at its step {self._steps} for messages of {peer}"
                    )
                time.sleep(LOOK_SECONDS)
        self._met({peer: int(everybody[peer][peer]) for peer in self._lines})

    def _met(self, steps: dict[int, int]) -> None:
        """All stand still, nothing is under way; ``steps`` are those of the others."""

    def _part(self) -> None:
        self._called = False
        self._together(lambda: dist.barrier(self.group))  # nobody may go on before everybody has looked

    def _together(self, meet: Any) -> None:
        """Meet in the group of all, and say who is missing if that fails."""
        try:
            meet()
        except RuntimeError:
            until = time.monotonic() + _NOTICING_SECONDS
            while not self._gone and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
            self._check_all_live(self._steps)
            raise

    def _lose(self, rank: int, reason: RuntimeError) -> None:
        self._gone.append((rank, reason))

    def _check_all_live(self, step: int) -> None:
        for rank, reason in self._gone:
            raise self._lost(rank, step) from reason

    def _went_on(self, steps: int) -> None:
        super()._went_on(steps)
        self._check_all_live(steps - 1)

    def _reach(self, rank: int, step: int) -> None:
        self._check_all_live(step)
        if self._lines[rank].left:
            raise self._lost(rank, step)


class MessageMailboxes(Messages, Mailboxes):
    """Shares travel by themselves and wait where they arrive; who has added one says so, and gets the next.

    So at most one share, travelling or waiting, lies on an edge, and a worker needs about as many buffers as it has
    edges with something on them. Buffers pass between threads through deques, and sets say who has collected; each
    changes in one atomic operation, and nobody holds a lock.

    A share's age in seconds is that from the push to its leaving, by the sender's clock, and from the arrival of its
    header to its use, by the receiver's: all but the header's way.
    """

    def __init__(self, topology: Topology, *arguments: Any, **options: Any) -> None:
        self._inbox: deque[tuple[int, Note, float, Flat]] = deque()
        self._uncollected: set[int] = set()
        """Peers that have not collected the last share."""
        self._standing: set[int] = set()
        self._pushed = [0] * topology.world_size
        """After how many of its steps each peer is known to have pushed."""
        super().__init__(topology, *arguments, **options)

    def _handle(self, line: Line, note: Note) -> None:
        if note.kind == Kind.share:
            began = time.monotonic() - note.seconds
            buffer = self._pool.take()
            line.read(buffer)
            self._inbox.append((line.peer, note, began, buffer))
        if note.kind in (Kind.share, Kind.pushed):
            self._pushed[line.peer] = note.step + 1
        elif note.kind == Kind.collected:
            self._uncollected.discard(line.peer)
        elif note.kind == Kind.standing:
            self._standing.add(line.peer)
        else:
            super()._handle(line, note)

    def _accepts(self, peer: int) -> bool:
        return peer not in self._uncollected and peer not in self._standing

    def _put(self, peer: int, step: int, x: Flat, share: float, weight: float) -> None:
        outbox = self._pool.take()
        outbox.copy_(x).mul_(share)
        self._uncollected.add(peer)
        self._lines[peer].send(Kind.share, step, share * weight, outbox, self._pool.give)

    def _take(self, x: Flat, *, wait: bool, tell: bool = True) -> tuple[float, list[tuple[int, int, float]]]:
        total, messages = 0.0, []
        for _ in range(len(self._inbox)):
            sender, note, began, buffer = self._inbox.popleft()
            x.add_(buffer)
            total += note.weight
            messages.append((sender, note.step, time.monotonic() - began))
            self._pool.give(buffer)
            if tell:
                self._lines[sender].send(Kind.collected)
        return total, messages

    def _tell(self, step: int) -> None:
        for peer in self.topology.out_peers(self.rank, step):
            if peer not in self._sent:
                self._lines[peer].send(Kind.pushed, step)

    def _steps_of(self, peer: int) -> int:
        return self._pushed[peer]

    def _gather(self) -> None:
        for line in self._lines.values():
            line.send(Kind.standing)
        super()._gather()

    def _met(self, steps: dict[int, int]) -> None:
        for peer, pushed in steps.items():
            self._pushed[peer] = pushed
        self._uncollected.clear()  # what lies here is about to be added, by everybody
        self._standing.clear()

    def _deliver(self, x: Flat, weight: float) -> tuple[Seen, float]:
        arrived, messages = self._take(x, wait=True, tell=False)
        return tuple((sender, sent_at) for sender, sent_at, _ in messages), weight + arrived

    def _restart(self) -> None:
        self._take(self._scratch, wait=True, tell=False)

    def begin(self, step: int) -> None:
        """Begin after ``step`` steps, from the parameters as they are now, with nothing under way. Collective."""
        self._steps = step  # for the others to know
        super().begin(step)


class MessagePairs(Messages, Pairs):
    """The acting worker sends its open model to its partner, whose thread averages the two and sends the average back.

    The partner's model is locked for as long as the average takes. The acting worker's is locked until that has come
    back, so that both get the same average of one consistent state; who asks it meanwhile waits. Of such waits there
    is no circle: in a chain of them ranks ascend, all even ones before all odd ones, see :func:`adpsgd.partner`.
    """

    def __init__(self, topology: Topology, group: dist.ProcessGroup | None, params: Flat, **options: Any) -> None:
        self._model = params.clone()
        self._version = 0
        self._open = Lock()
        """Held by whoever changes the model or needs it to stay as it is."""
        self._replied = Flag()
        self._their_version = 0
        super().__init__(topology, group, params, **options)

    def _handle(self, line: Line, note: Note) -> None:
        if note.kind == Kind.request:
            theirs = self._pool.take()
            line.read(theirs)
            with self._open:
                version = self._version
                average_(theirs, self._model)
                self._version += 1
            line.send(Kind.reply, version, content=theirs, done=self._pool.give)
        elif note.kind == Kind.reply:
            line.read(self._model)  # which the training thread holds, and which has left
            self._their_version = note.step
            self._replied.set()
        else:
            super()._handle(line, note)

    def _average(self, x: Flat, before: Flat, other: int | None, step: int) -> Seen:
        with self._open:
            seen = [(self.rank, self._version)]
            untouched = self._version == self._seen
            if other is None:
                update_and_average_(x, before, self._model, None, untouched=untouched)
            else:
                self._reach(other, step)
                update_(x, before, self._model, untouched=untouched)
                self._replied.clear()
                self._lines[other].send(Kind.request, step, content=self._model)
                while not self._replied.wait(_PATIENCE_SECONDS):
                    self._reach(other, step)
                seen.append((other, self._their_version))
                x.copy_(self._model)
            self._version += 1
        return tuple(sorted(seen))

    def _own(self) -> tuple[Flat, int]:
        return self._model, self._version
