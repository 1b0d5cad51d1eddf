"""``cluster.wait=true``: staying until submitted jobs have ended, showing their progress. They do not need us."""

from __future__ import annotations

import time
from collections.abc import Sequence

from launcher import report, scheduler
from launcher.backends import Attempt
from launcher.progress import Display, Screen, Tail
from launcher.run import FAILED, INTERRUPTED, OK
from launcher.run_folder import read_json
from launcher.stopping import StopSignals

_LOOK_S = 0.5
_ASK_S = 5.0
_LAST_LOOKS = 4
"""How often SLURM must say that a job has ended before its run, which does not say so itself, counts as lost."""


def wait_for(attempts: Sequence[Attempt]) -> list[int]:
    """Return the exit codes of runs that SLURM has, when all have ended. An interruption leaves them alone."""
    many = len(attempts) > 1
    screen, stop = Screen(many=many), StopSignals()
    watched = []
    for number, attempt in enumerate(attempts, start=1):
        label = f"[{number}/{len(attempts)}] " if many else ""
        watched.append(_Watched(attempt, screen.display(attempt.plan.name, label), label))
    asked = 0.0
    with stop.noted():
        while any(run.code is None for run in watched) and not stop.received:
            jobs = None
            if time.monotonic() - asked > _ASK_S:
                jobs, asked = scheduler.queue(), time.monotonic()
            for run in watched:
                run.look(jobs)
            time.sleep(_LOOK_S)
    screen.close()
    if stop.received:
        which = attempts[0].plan.sweep if many else attempts[0].plan.run_id
        print(f"left alone; sgp status {which} shows how it goes on, sgp cancel {which} ends it")
        return [INTERRUPTED]
    return [run.code or OK for run in watched]


class _Watched:
    def __init__(self, attempt: Attempt, view: Display, label: str) -> None:
        self.code: int | None = None
        self._attempt, self._view, self._label = attempt, view, label
        self._number = attempt.number
        self._tail = Tail(attempt.folder.progress(attempt.number))
        self._absent = 0

    def look(self, jobs: dict[str, scheduler.QueuedJob] | None) -> None:
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
                report.print_error(summary["error"])
            report.print_summary({"run_id": self._attempt.plan.run_id, **summary}, folder.path, self._label)
            self.code = OK if summary.get("status") == "completed" else FAILED
