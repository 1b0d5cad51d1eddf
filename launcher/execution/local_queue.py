"""A queue of runs on this machine: never more workers at a time than there are slots."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from launcher.config.run_plan import RunPlan
from launcher.console.messages import print_failure
from launcher.console.progress import Display
from launcher.console.screen import Screen
from launcher.console.summary import print_complete
from launcher.execution.attempts import chosen_gpus
from launcher.execution.backends.base import SubmissionFailed
from launcher.execution.resources import Lease, WorkerSlots
from launcher.execution.run_lifecycle import (
    INTERRUPTED,
    OK,
    SUBMISSION_FAILED,
    enqueue,
    run_here,
    set_status,
)
from launcher.execution.signals import StopSignals
from launcher.runs.run_folder import RunFolder, RunInProgress
from sgp_core.atomic_files import read_json

_POLL_S = 0.05


@dataclass
class _Active:
    plan: RunPlan
    run: Generator[None, None, int]
    lease: Lease


class Feed(Protocol):
    """A source of plans that depend on how others ended."""

    total: int

    def next(self, running: int) -> RunPlan | None:
        """Return the next plan, given how many runs are running; None to start none now."""

    def record_end(self, plan: RunPlan) -> None:
        """Learn from a run that has ended."""


def run_queue(plans: Sequence[RunPlan], command: Sequence[str], feed: Feed | None = None) -> list[int]:
    """Run all plans, as many at a time as there are slots for, in order; return their exit codes.

    A run that fails does not keep the others from running; an interruption does.

    Args:
        feed: a source of further plans.
    """
    queue = _Queue(plans, command, feed)
    with queue.stop.record():
        while queue.advance():
            time.sleep(_POLL_S)
    queue.screen.close()
    return queue.codes


class _Queue:
    def __init__(self, plans: Sequence[RunPlan], command: Sequence[str], feed: Feed | None) -> None:
        self.codes: list[int] = []
        self.stop = StopSignals()
        self._total = feed.total if feed else len(plans)
        self.screen = Screen(many=self._total > 1, plain=all(plan.cluster.name == "inline" for plan in plans))
        self._command = command
        self._feed = feed
        self._slots = WorkerSlots(plans[0].cluster.slots) if plans else None
        self._waiting = deque(plans)
        self._started = 0
        self._active: list[_Active] = []
        self._interrupted = False
        if len(plans) > 1:
            for plan in plans:
                enqueue(plan)

    def advance(self) -> bool:
        """Start runs that there are slots for, look at those that run, and return whether any is left."""
        self._interrupted = self._interrupted or bool(self.stop.received)
        if self._interrupted:
            self._cancel_waiting()
        elif self._feed and not self._waiting and (plan := self._feed.next(len(self._active))):
            self._waiting.append(plan)
            enqueue(plan)
        self._start_waiting()
        for active in list(self._active):
            self._advance(active)
        return bool(self._waiting or self._active)

    def _start_waiting(self) -> None:
        while self._waiting:
            plan = self._waiting[0]
            self._slots = self._slots or WorkerSlots(plan.cluster.slots)
            lease = self._slots.lease(plan.cluster, plan.processes)
            if lease is None or (plan.cluster.name == "inline" and self._active):
                return
            self._waiting.popleft()
            self._started += 1
            label = f"[{self._started}/{self._total}] " if self._total > 1 else ""
            gpus = ",".join(lease.gpus) if lease.gpus else chosen_gpus()
            display = self.screen.display(plan.title, label, plan.spec())
            self._active.append(_Active(plan, self._run(plan, display, gpus, label), lease))

    def _run(self, plan: RunPlan, display: Display, gpus: str | None, label: str) -> Generator[None, None, int]:
        """Run a plan, unless its run was completed or cancelled while it waited."""
        folder = RunFolder(plan.run_dir)
        if folder.status() == "completed":
            print_complete(read_json(folder.summary) or {}, folder.path, label and f"{label}{plan.title}")
            return OK
        if label and folder.cancel.exists():
            folder.cancel.unlink(missing_ok=True)
            set_status(folder, plan, "cancelled")
            return 1
        return (yield from run_here(plan, self._command, display, self.stop, gpus, label))

    def _advance(self, active: _Active) -> None:
        try:
            next(active.run)
            return
        except StopIteration as end:
            self.codes.append(end.value)
        except (RunInProgress, SubmissionFailed, OSError) as error:
            self.codes.append(print_failure(error, SUBMISSION_FAILED))
        except KeyboardInterrupt:
            self.codes.append(INTERRUPTED)
        self._interrupted = self._interrupted or self.codes[-1] > 128
        self._active.remove(active)
        if self._slots:
            self._slots.give_back(active.lease)
        if self._feed:
            self._feed.record_end(active.plan)

    def _cancel_waiting(self) -> None:
        while self._waiting:
            plan = self._waiting.popleft()
            if self._total > 1:
                set_status(RunFolder(plan.run_dir), plan, "cancelled")
            self.codes.append(INTERRUPTED)
