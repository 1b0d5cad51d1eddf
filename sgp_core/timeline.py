"""A trace of some steps of a worker, for https://ui.perfetto.dev and for ``sgp report``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import write_text

SETTLING = 3
"""Steps after a start that are left out: memory is touched for the first time, connections are made."""

now = time.time_ns
"""The clock of traces, ns: the wall clock, so that those of several hosts can be laid side by side."""


@dataclass
class Marks:
    """What a transport records of one exchange, in ns.

    Attributes:
        posted: when sends and receives had been handed over.
        arrived: when the whole message of an in-peer was seen to be there, by its rank.
        hidden: the in-peers whose message had arrived before the worker began to wait for it.
        waited: how long the worker waited for messages.
    """

    posted: int = 0
    arrived: dict[int, int] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    waited: int = 0


class Timeline:
    """Records some steps of one worker and writes them once, in the Chrome trace format.

    Args:
        path: of the file to write.
        rank: the worker's.
        steps: how many to record, after the first :data:`SETTLING` of them.
    """

    def __init__(self, path: Path, rank: int, steps: int) -> None:
        self.recording = False
        self._path = path
        self._rank = rank
        self._steps = steps
        self._step, self._seen = 0, 0
        self._written = False
        self._events: list[dict[str, Any]] = [
            {"ph": "M", "name": "process_name", "pid": rank, "args": {"name": f"worker {rank}"}},
            {"ph": "M", "name": "thread_name", "pid": rank, "tid": 0, "args": {"name": "training"}},
        ]

    def begin_step(self, step: int) -> None:
        """Say which step begins."""
        self._step = step
        self.recording = SETTLING <= self._seen < SETTLING + self._steps
        self._seen += 1

    def end_step(self, began: int) -> None:
        """Record the whole step, since ``began``; once there are enough, write them."""
        self.span("step", began, now(), step=self._step)
        if self._seen == SETTLING + self._steps:
            self.write()

    def span(self, name: str, begin: int, end: int, **more: Any) -> None:
        """Record that the training thread did ``name`` from ``begin`` to ``end``."""
        if self.recording:
            self._add(name, 0, begin, end, more)

    @contextmanager
    def spanning(self, name: str, **more: Any) -> Iterator[None]:
        """Record the time inside the block."""
        begin = now()
        yield
        self.span(name, begin, now(), **more)

    def exchange(self, verb: str, begin: int, end: int, step: int | None, nbytes: int, marks: Marks) -> None:
        """Record an exchange, and the way of each message to this worker as a row of its own."""
        if not self.recording:
            return
        wait = marks.waited / 1e6
        exchange = {"step": step, "bytes": nbytes, "wait_ms": wait, "posted": marks.posted / 1e3}
        self._add(verb, 0, begin, end, exchange)
        for peer, arrived in marks.arrived.items():
            about: dict[str, Any] = {"step": step, "from": peer, "to": self._rank, "bytes": nbytes}
            about["hidden"] = peer in marks.hidden
            self._add(f"{peer} to {self._rank}", 1 + peer, marks.posted or begin, arrived, about)

    def write(self) -> None:
        """Write what has been recorded; once."""
        if self._written or len(self._events) <= 2:
            return
        self._written, self.recording = True, False
        peers = sorted({event["tid"] for event in self._events if event.get("tid", 0) > 0})
        names = [
            {
                "ph": "M",
                "name": "thread_name",
                "pid": self._rank,
                "tid": tid,
                "args": {"name": f"from worker {tid - 1}"},
            }
            for tid in peers
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path, json.dumps({"displayTimeUnit": "ms", "traceEvents": [*names, *self._events]}))
        self._events = []

    def _add(self, name: str, track: int, begin: int, end: int, about: dict[str, Any]) -> None:
        self._events.append(
            {
                "ph": "X",
                "name": name,
                "pid": self._rank,
                "tid": track,
                "ts": begin / 1e3,
                "dur": max(0, end - begin) / 1e3,
                "args": about,
            }
        )
