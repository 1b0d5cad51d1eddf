"""``cluster.wait=true``: show the progress of submitted jobs until they have ended. They do not depend on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from launcher.console.progress import Tail
from launcher.console.screen import Screen
from launcher.console.summary import print_error, print_summary, print_warnings
from launcher.execution.backends.base import Attempt
from launcher.execution.run_lifecycle import FAILED, INTERRUPTED, OK, SUBMISSION_FAILED
from launcher.execution.signals import StopSignals
from launcher.runs.run_folder import RunFolder
from launcher.system import slurm_cli
from sgp_core.atomic_files import read_json

if TYPE_CHECKING:
    from launcher.config.run_plan import RunPlan
    from launcher.execution.local_queue import Feed

POLL_S = 0.5
_SQUEUE_S = 5.0
"""Seconds between two questions to SLURM."""
_ABSENCES = 4
"""How often a job must be missing from the queue before its run, which has not recorded its end, counts as lost."""


def wait_for(attempts: Sequence[Attempt]) -> list[int]:
    """Wait until all runs have ended, and return their exit codes. An interruption leaves the runs alone."""
    many = len(attempts) > 1
    screen, stop = Screen(many=many), StopSignals()
    watched = []
    for number, attempt in enumerate(attempts, start=1):
        watched.append(Watched(attempt, screen, f"[{number}/{len(attempts)}] " if many else ""))
    with stop.record():
        while any(run.code is None for run in watched) and not stop.received:
            look_at(watched)
            time.sleep(POLL_S)
    screen.close()
    if stop.received:
        which = attempts[0].plan.sweep if many else attempts[0].plan.run_id
        print(f"the jobs continue; sgp status {which} shows them, sgp cancel {which} ends them")
        return [INTERRUPTED]
    return [run.code or OK for run in watched]


def run_feed(feed: Feed, submit: Callable[[RunPlan], Attempt | None]) -> list[int]:
    """Submit the plans of ``feed``, show their progress and how they ended; return exit codes.

    An interruption leaves submitted jobs alone; the same command continues with them.
    """
    screen, stop = Screen(many=True), StopSignals()
    watched: list[Watched] = []
    codes: list[int] = []
    started = 0
    with stop.record():
        while not stop.received:
            plan = feed.next(len(watched))
            if plan is not None:
                started += 1
                if RunFolder(plan.run_dir).status() == "completed":  # in another sweep, or with the same values
                    feed.record_end(plan)
                    continue
                attempt = submit(plan)
                if attempt is None:
                    return [*codes, SUBMISSION_FAILED]
                watched.append(Watched(attempt, screen, f"[{started}/{feed.total}] "))
                continue
            if not watched:
                break
            look_at(watched)
            for run in [run for run in watched if run.code is not None]:
                watched.remove(run)
                feed.record_end(run.plan)
                codes.append(run.code or OK)
            time.sleep(POLL_S)
    screen.close()
    return [*codes, INTERRUPTED] if stop.received else codes


def look_at(watched: Sequence[Watched]) -> None:
    """Show new progress, and notice runs that have ended. SLURM is asked only every few seconds."""
    jobs = None
    if watched and time.monotonic() - min(run.queried for run in watched) > _SQUEUE_S:
        jobs = slurm_cli.queue()
        for run in watched:
            run.queried = time.monotonic()
    for run in watched:
        run.look(jobs)


class Watched:
    """A run on SLURM, and the display of its progress."""

    def __init__(self, attempt: Attempt, screen: Screen, label: str) -> None:
        self.code: int | None = None
        """Exit code, once it has ended."""
        self.queried = 0.0
        """When SLURM was last asked about it, by :func:`time.monotonic`."""
        self.plan = attempt.plan
        self._attempt, self._label = attempt, label
        self._view = screen.display(attempt.plan.title, label, attempt.plan.spec())
        self._number = attempt.number
        self._tail = Tail(attempt.folder.progress(attempt.number))
        self._absent = 0

    def look(self, jobs: dict[str, slurm_cli.QueuedJob] | None) -> None:
        """Show new progress, and notice the end.

        Args:
            jobs: SLURM's queue; None if it was not asked or did not answer.
        """
        if self.code is not None:
            return
        folder = self._attempt.folder
        newest = folder.next_attempt() - 1
        for row in self._tail.rows():
            self._view.show(row)
        if newest > self._number:
            self._number, self._tail = newest, Tail(folder.progress(newest))
            self._view.say(f"{self._label}{self.plan.title}: started again by SLURM, attempt {newest}")
        if jobs is not None:
            job = (read_json(folder.job) or {}).get("job_id")
            self._absent = 0 if job in jobs else self._absent + 1
        summary = read_json(folder.summary) or {}
        ended = summary.get("status") in ("completed", "failed", "cancelled") and self._absent
        if ended or self._absent >= _ABSENCES:
            self._view.close()
            print_warnings(folder, newest, self.plan.world_size)
            if summary.get("error"):
                print_error(summary["error"])
            label = self._label and f"{self._label}{self.plan.title}"
            print_summary({"run_id": self.plan.run_id, **summary}, folder.path, label)
            self.code = OK if summary.get("status") == "completed" else FAILED
