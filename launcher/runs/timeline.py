"""Where the time of a run's steps goes, and which worker or link is slow, from its recorded timeline."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from launcher.runs.json_fields import items, mapping, number, whole
from sgp_core.atomic_files import read_file

_SLOW_LINK, _SLOW_WORKER = 2.0, 1.5
"""Multiples of the median of the others beyond which a link or a worker counts as slow."""
_NOTICEABLE_MS = 1.0
_EXCHANGES = ("mix", "post", "combine", "complete", "push", "pull", "mean", "share", "swap")


@dataclass(frozen=True)
class WorkerTime:
    """Median milliseconds per step of one worker.

    Attributes:
        compute: forward, backward and the optimizer.
        wait: for messages; ``gossip`` is the rest of the exchanges: sending and mixing.
    """

    rank: int
    step: float
    data: float
    compute: float
    wait: float
    gossip: float


@dataclass(frozen=True)
class LinkTime:
    """Median milliseconds a message takes, from when both ends were ready for it."""

    sender: int
    receiver: int
    ms: float
    messages: int


@dataclass(frozen=True)
class RunTimeline:
    """What was recorded of a run.

    Attributes:
        steps: number of recorded steps.
        links: those whose receivers had to wait, the slowest first.
        hidden: number of the other links, whose messages always came in time.
    """

    steps: int
    workers: tuple[WorkerTime, ...]
    links: tuple[LinkTime, ...]
    hidden: int

    def remarks(self) -> list[str]:
        """Return a sentence each on a worker and a link that are slow."""
        remarks = []
        slowest = max(self.workers, key=lambda worker: worker.compute)
        others = [worker.compute for worker in self.workers if worker is not slowest]
        if others and slowest.compute > max(_SLOW_WORKER * median(others), median(others) + _NOTICEABLE_MS):
            remarks.append(
                f"Slowest worker: {slowest.rank}, which computes {slowest.compute:.3g} ms a step; the others"
                f" {median(others):.3g} ms."
            )
        if self.links and len(self.links) + self.hidden > 1:
            link = self.links[0]
            usual = median([other.ms * other.messages for other in self.links[1:]] + [0.0] * self.hidden) / self.steps
            cost = link.ms * link.messages / self.steps
            if cost > max(_SLOW_LINK * usual, usual + _NOTICEABLE_MS):
                remarks.append(
                    f"Slowest link: worker {link.sender} to worker {link.receiver}, {link.ms:.3g} ms a message and"
                    f" {cost:.3g} ms a step; the others {usual:.3g} ms a step."
                )
        return remarks


def read_timeline(run_folder: Path) -> RunTimeline | None:
    """Return the timeline of a run; None if its workers have recorded none, or it cannot be read."""
    traces = {rank: events for path in sorted(run_folder.glob("timeline/rank-*.json")) for rank, events in _read(path)}
    workers = [worker for rank, events in sorted(traces.items()) if (worker := _worker(rank, events)) is not None]
    if not workers:
        return None
    steps = max(sum(event["name"] == "step" for event in events) for events in traces.values())
    links, hidden = _links(traces)
    return RunTimeline(steps, tuple(workers), tuple(links), hidden)


def _read(path: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    rank = path.stem.removeprefix("rank-")
    try:
        events = items(mapping(json.loads(read_file(path))).get("traceEvents"))
    except (OSError, ValueError, RecursionError):
        return
    whole_ones = [
        {"name": event.get("name"), "ts": ts, "ms": length / 1e3, "args": mapping(event.get("args"))}
        for event in map(mapping, events)
        if (ts := number(event.get("ts"))) is not None and (length := number(event.get("dur"))) is not None
    ]
    if rank.isdecimal():
        yield int(rank), whole_ones


def _worker(rank: int, events: Sequence[Mapping[str, Any]]) -> WorkerTime | None:
    steps = [event for event in events if event["name"] == "step"]
    if not steps:
        return None

    def per_step(chosen: Iterable[tuple[float, float]]) -> float:
        """Return the median over steps of the time within a step, given pairs of moment and length."""
        sums = [0.0] * len(steps)
        spans = sorted(chosen)
        for index, step in enumerate(steps):
            end = step["ts"] + step["ms"] * 1e3
            sums[index] = sum(length for moment, length in spans if step["ts"] <= moment < end)
        return median(sums)

    exchanges = [event for event in events if event["name"] in _EXCHANGES]
    data = per_step((event["ts"], event["ms"]) for event in events if event["name"] == "data")
    wait = per_step((event["ts"], number(event["args"].get("wait_ms")) or 0.0) for event in exchanges)
    gossip = per_step((event["ts"], event["ms"]) for event in exchanges)
    whole_step = median(step["ms"] for step in steps)
    return WorkerTime(
        rank, whole_step, data, max(0.0, whole_step - data - gossip), min(wait, gossip), max(0.0, gossip - wait)
    )


def _links(traces: Mapping[int, Sequence[Mapping[str, Any]]]) -> tuple[list[LinkTime], int]:
    ready: dict[tuple[int, int], float] = {}  # (worker, step of the graph) -> when its messages were posted
    for rank, events in traces.items():
        for event in events:
            step, posted = whole(event["args"].get("step")), number(event["args"].get("posted"))
            if event["name"] in ("mix", "combine", "push") and step is not None and posted:
                ready[rank, step] = posted
    links_used: set[tuple[int, int]] = set()
    took: dict[tuple[int, int], list[float]] = defaultdict(list)
    for receiver, events in traces.items():
        for event in events:
            sender, step = whole(event["args"].get("from")), whole(event["args"].get("step"))
            if sender is None or step is None or (sender, step) not in ready:
                continue
            links_used.add((sender, receiver))
            if event["args"].get("hidden"):
                continue
            arrived = event["ts"] + event["ms"] * 1e3
            both_ready = max(ready[sender, step], event["ts"])
            took[sender, receiver].append(max(0.0, arrived - both_ready) / 1e3)
    links = [LinkTime(sender, receiver, median(times), len(times)) for (sender, receiver), times in took.items()]
    return sorted(links, key=lambda link: -link.ms * link.messages), len(links_used) - len(links)
