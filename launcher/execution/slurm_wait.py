"""``cluster.wait=true``: staying until submitted jobs have ended, showing their progress. They do not need us."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from launcher.console.progress import Screen, Tail
from launcher.console.summary import print_error, print_summary
from launcher.execution.backends.base import Attempt
from launcher.execution.run_lifecycle import FAILED, INTERRUPTED, OK, SUBMISSION_FAILED
from launcher.execution.signals import StopSignals
from launcher.runs.run_folder import RunFolder, read_json
from launcher.system import slurm_cli

if TYPE_CHECKING:
    from launcher.config.run_plan import RunPlan
    from launcher.execution.local_queue import Feed

LOOK_S = 0.5
_ASK_S = 5.0
_LAST_LOOKS = 4
"""How often SLURM must say that a job has ended before its run, which does not say so itself, counts as lost."""


def wait_for(attempts: Sequence[Attempt]) -> list[int]:
    """Return the exit codes of runs that SLURM has, when all have ended. An interruption leaves them alone."""
    many = len(attempts) > 1
    screen, stop = Screen(many=many), StopSignals()
    watched = []
    for number, attempt in enumerate(attempts, start=1):
        watched.append(Watched(attempt, screen, f"[{number}/{len(attempts)}] " if many else ""))
    with stop.noted():
        while any(run.code is None for run in watched) and not stop.received:
            look_at(watched)
            time.sleep(LOOK_S)
    screen.close()
    if stop.received:
        which = attempts[0].plan.sweep if many else attempts[0].plan.run_id
        print(f"left alone; sgp status {which} shows how it goes on, sgp cancel {which} ends it")
        return [INTERRUPTED]
    return [run.code or OK for run in watched]


def run_feed(feed: Feed, submit: Callable[[RunPlan], Attempt | None]) -> list[int]:
    """Submit what ``feed`` comes up with, watch it and tell how it ended; return exit codes.

    An interruption leaves what is submitted alone; the same command goes on with it.
    """
    screen, stop = Screen(many=True), StopSignals()
    watched: list[Watched] = []
    codes: list[int] = []
    started = 0
    with stop.noted():
        while not stop.received:
            plan = feed.next(len(watched))
            if plan is not None:
                started += 1
                if RunFolder(plan.run_dir).status() == "completed":  # by another sweep, or the same values again
                    feed.ended(plan)
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
                feed.ended(run.plan)
                codes.append(run.code or OK)
            time.sleep(LOOK_S)
    screen.close()
    return [*codes, INTERRUPTED] if stop.received else codes


def look_at(watched: Sequence[Watched]) -> None:
    """Show what is new of runs, and notice those that have ended; SLURM is asked now and then."""
    jobs = None
    if watched and time.monotonic() - min(run.asked for run in watched) > _ASK_S:
        jobs = slurm_cli.queue()
        for run in watched:
            run.asked = time.monotonic()
    for run in watched:
        run.look(jobs)


class Watched:
    """A run that SLURM has."""

    def __init__(self, attempt: Attempt, screen: Screen, label: str) -> None:
        self.code: int | None = None
        """Exit code, once it has ended."""
        self.asked = 0.0
        """When SLURM was last asked about it."""
        self.plan = attempt.plan
        self._attempt, self._label = attempt, label
        self._view = screen.display(attempt.plan.name, label, attempt.plan.spec())
        self._number = attempt.number
        self._tail = Tail(attempt.folder.progress(attempt.number))
        self._absent = 0

    def look(self, jobs: dict[str, slurm_cli.QueuedJob] | None) -> None:
        """Show what is new; notice the end."""
        if self.code is not None:
            return
        folder = self._attempt.folder
        newest = folder.next_attempt() - 1
        for row in self._tail.rows():
            self._view.show(row)
        if newest > self._number:
            self._number, self._tail = newest, Tail(folder.progress(newest))
            self._view.say(f"{self._label}{self._attempt.plan.name}: started again by SLURM, attempt {newest}")
        if jobs is not None:
            job = (read_json(folder.job) or {}).get("job_id")
            self._absent = 0 if job in jobs else self._absent + 1
        summary = read_json(folder.summary) or {}
        ended = summary.get("status") in ("completed", "failed", "cancelled") and self._absent
        if ended or self._absent >= _LAST_LOOKS:
            self._view.close()
            if summary.get("error"):
                print_error(summary["error"])
            print_summary({"run_id": self._attempt.plan.run_id, **summary}, folder.path, self._label)
            self.code = OK if summary.get("status") == "completed" else FAILED
