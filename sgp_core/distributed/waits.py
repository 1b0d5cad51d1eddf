"""What the training thread says of its waits, so that a thread beside it can tell others, and end those without end."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import TracebackType

import torch.distributed as dist

from sgp_core.distributed.collectives import Collectives
from sgp_core.distributed.phase_page import PhasePage
from sgp_core.distributed.positions import STEP
from sgp_core.distributed.wait_watcher import WaitingPlace, WaitNotes, WaitWatcher
from sgp_core.errors import ConfigurationError, Deadlock


class Waits:
    """The places in which the training thread waits for other workers, watched by a :class:`WaitWatcher`.

    Args:
        group: the process group of all workers, None for the default one; without torch.distributed nothing is watched.
        patience_s: seconds within which a wait without end is ended, and after which who is missing is named;
            infinite: never.
        in_step: whether workers take their steps together.

    Attributes:
        group: as given.
        alone: whether there is no other worker.
        joining: what lets workers without batches take part in the steps of others, so that no worker may call for all
            of them; None: nothing does.

    Raises:
        ConfigurationError: no patience at all.
    """

    def __init__(self, group: dist.ProcessGroup | None, patience_s: float, *, in_step: bool) -> None:
        if not patience_s > 0:
            raise ConfigurationError(f"patience_s must be more than 0 seconds, not {patience_s}; math.inf never looks")
        workers = Collectives(group)
        self.joining: object | None = None
        self.group = group
        self.alone = workers.size == 1
        self._in_step = in_step
        self._notes = WaitNotes()
        self._watcher: WaitWatcher | None = None
        if workers.size > 1 and patience_s < threading.TIMEOUT_MAX:
            self._watcher = WaitWatcher.start(self._notes, group, workers.rank, workers.size, patience_s)
        self._end: Callable[[], object] = (
            weakref.finalize(self, self._watcher.end) if self._watcher is not None else lambda: None
        )

    @property
    def steps(self) -> int:
        """How many steps this worker has completed."""
        return self._notes.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self._notes.steps = steps

    @property
    def place(self) -> WaitingPlace:
        """Where this worker waits at the moment: an object of its own for each wait, without a name if it does not."""
        return self._notes.place

    def show(self, page: PhasePage | None) -> None:
        """Write to a page, from now on, where this worker waits; None: write no more."""
        self._notes.page = page

    def give_up(self, error: RuntimeError) -> None:
        """End what this worker waits in, with ``error``; for another thread to call. Nothing works any more."""
        if self._watcher is not None:
            self._watcher.give_up(error)

    def interrupt_by(self, *methods: Callable[[str], None]) -> None:
        """Call methods, with the reason, where what waits in this process is to be ended. They are not kept alive."""
        if self._watcher is not None:
            self._watcher.interrupts += map(weakref.WeakMethod, methods)

    def inside(self, name: str, *, collective: bool = True, needs: int = 0, meet: bool = True) -> WaitingBlock:
        """Return a block inside which this worker may wait in the place ``name``; one within another counts as that.

        Args:
            collective: whether all workers have to come to it before any of them leaves it.
            needs: how many steps peers must have begun before it can be left, if it is not collective.
            meet: whether all workers that step together must have come before the block begins, if it is collective:
                it could take what they average in a step for what they average in it.

        Raises:
            Deadlock: by the block: no worker can go on.
            PeerLost: by the block: a worker has ended, and those that wait need it.
            RuntimeError: workers that have no batches left do not come to it.
        """
        if collective and self.joining is not None:
            raise RuntimeError(f"{name} inside gossip.join(): workers whose batches have run out do not come to it")
        place = WaitingPlace(name, collective, needs, self._notes.steps)
        return WaitingBlock(self._notes, self._watcher, place, meets=meet and collective and self._in_step)

    def inside_step(self, name: str = STEP) -> WaitingBlock:
        """Return such a block for what peers do in the step that comes next."""
        return self.inside(name, collective=False, needs=self._notes.steps + 1 if self._in_step else 0)

    def inside_drain(self, name: str) -> WaitingBlock:
        """Return such a block for what is in flight: a meeting of all workers where they do not step together."""
        return self.inside(name, collective=not self._in_step, needs=self._notes.steps if self._in_step else 0)

    def inside_close(self) -> WaitingBlock:
        """Return such a block for messages that are to be given up: those of peers that have taken as many steps."""
        return self.inside("close()", collective=False, needs=self._notes.steps if self._in_step else 0)

    def close(self) -> None:
        """Tell the others that this worker waits nowhere any more, and end the thread."""
        self._notes.ended = "closed its Gossip"
        self._end()


class WaitingBlock:
    """A block of code of the training thread, inside which it may wait for others."""

    __slots__ = ("_entered", "_meets", "_notes", "_place", "_watcher")

    def __init__(self, notes: WaitNotes, watcher: WaitWatcher | None, place: WaitingPlace, *, meets: bool) -> None:
        self._notes, self._watcher, self._place, self._meets = notes, watcher, place, meets
        self._entered = False

    def __enter__(self) -> None:
        if not self._notes.place.name:
            self._entered = True
            self._notes.place = self._place
            if self._notes.page is not None:
                self._notes.page.put_place(self._place.steps, self._place.name)
            if self._meets and self._watcher is not None:
                self._meet(self._watcher)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._entered:
            return
        notes, place = self._notes, self._place
        notes.place = WaitingPlace("", False, 0, notes.steps)
        if notes.page is not None:
            notes.page.put_place(notes.steps, "")
        if error is None:
            if place.collective:
                notes.passed[place.name] = notes.passed.get(place.name, 0) + 1
        elif self._watcher is not None and isinstance(error, RuntimeError) and not isinstance(error, Deadlock):
            ended_by = self._watcher.verdict()
            if ended_by is not None:
                raise ended_by from None

    def _meet(self, watcher: WaitWatcher) -> None:
        entered, name = self._notes.entered, self._place.name
        entered[name] = entered.get(name, 0) + 1
        try:
            watcher.meet(name, entered[name])
        except BaseException:
            self._notes.place = WaitingPlace("", False, 0, self._notes.steps)
            raise
