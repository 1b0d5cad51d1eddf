"""Watching the workers of one attempt: the attempt succeeds if all of them do, and ends when the first fails.

Their reports (``rank-<k>.json``) and whether they are alive decide. Exit codes do not: submitit's local executor does
not pass them on.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from launcher.console.progress import Tail
from launcher.execution.backends.base import Attempt, Outcome
from launcher.execution.signals import StopSignals
from launcher.runs.failure import ENDED, SUCCESSFUL, Report, add_log, find_culprit, read_reports
from launcher.system import processes

if TYPE_CHECKING:
    from launcher.console.progress import Display

_LAST_REPORTS_S = 1.5
"""After a failure, how long the other workers may take to report their end and close their files."""
_SAVE_S = 60.0
"""After a request to stop, how long workers may take to save."""
_CLOSE_S = 90.0
"""After success, how long workers may take to close trackers and exit."""


class Job(Protocol):
    """Started workers."""

    def workers(self) -> dict[int, processes.Process]:
        """Return the processes by rank, those that have ended too; ranks that have not started are missing."""

    def is_over(self) -> bool:
        """Whether every worker has ended."""


class Supervisor:
    """Watches one attempt. The backend ends the processes that are left of it."""

    def __init__(self, attempt: Attempt, display: Display, stop: StopSignals) -> None:
        self._attempt = attempt
        self._display = display
        self._stop = stop
        self._world_size = attempt.plan.processes
        self._cancellations: list[int] = []
        self._failure: dict[str, Any] | None = None
        self._tail = Tail(attempt.folder.progress(attempt.number))

    def watch(self, job: Job) -> Iterator[None]:
        """Look at the workers once each time the caller resumes the iterator.

        It ends when every worker has succeeded, when one has failed, or when workers that were asked to stop have
        stopped or have run out of time.
        """
        stop_by: float | None = None
        while True:
            self._show_progress()
            over, vanished = job.is_over(), self._vanished(job)
            reports = self._reports()
            if self._have_succeeded(reports, vanished):
                yield from self._wait_for_exit(job)
                return
            requests = self._stop_requests()
            if requests and stop_by is None:
                if not self._ask_to_stop(job, reports):
                    return
                stop_by = time.monotonic() + _SAVE_S
            if stop_by is not None and (over or len(requests) > 1 or time.monotonic() > stop_by):
                return
            if stop_by is None and (over or self._have_failed(reports, vanished)):
                yield from self._wait_for_reports(job)
                self._failure = self._error(job)
                return
            yield

    def outcome(self) -> Outcome:
        """Return how the attempt ended."""
        reports = self._reports()
        saved = self._have_succeeded(reports, range(self._world_size))
        if saved and not any(report["status"] == "preempted" for report in reports.values()):
            return Outcome("completed")
        if self._failure is not None:
            return Outcome("failed", error=self._failure)
        if requests := self._stop_requests():
            status = "preempted" if saved and requests[0] != signal.SIGINT else "cancelled"
            return Outcome(status, signal=next(iter(self._stop.received), None))
        return Outcome("preempted" if saved else "failed")

    # -- judging --------------------------------------------------------------------------------------------------
    def _have_succeeded(self, reports: dict[int, Report], vanished: Collection[int]) -> bool:
        """Whether the workers have completed or saved their work."""
        return len(reports) == self._world_size and all(report["status"] in SUCCESSFUL for report in reports.values())

    def _have_failed(self, reports: dict[int, Report], vanished: Collection[int]) -> bool:
        """Whether a worker has failed in such a way that the attempt ends."""
        lost = [rank for rank in vanished if reports.get(rank, {}).get("status") not in ENDED]
        return bool(lost) or any(report["status"] in ("failed", "cancelled") for report in reports.values())

    def _can_save(self, reports: dict[int, Report]) -> bool:
        """Whether there is something to save: every worker trains."""
        return len([rank for rank, report in reports.items() if report["status"] == "training"]) == self._world_size

    # -- stopping -------------------------------------------------------------------------------------------------
    def _stop_requests(self) -> list[int]:
        """Return the signals that ask this attempt to stop; the file ``cancel`` in its folder counts as Ctrl-C."""
        if self._attempt.folder.cancel.exists():
            self._attempt.folder.cancel.unlink(missing_ok=True)
            self._cancellations.append(signal.SIGINT)
        return [*self._stop.received, *self._cancellations]

    def _ask_to_stop(self, job: Job, reports: dict[int, Report]) -> bool:
        """Ask the workers to save and stop; False if not all of them train yet, so that there is nothing to save."""
        if not self._can_save(reports):
            self._display.say("stopping")
            return False
        self._display.say("stopping: saving a checkpoint; Ctrl-C once more stops at once")
        for worker in job.workers().values():
            processes.send_signal(worker, signal.SIGTERM)
        return True

    def _wait_for_exit(self, job: Job) -> Iterator[None]:
        patience = time.monotonic() + _CLOSE_S
        before = len(self._stop_requests())
        while not job.is_over() and time.monotonic() < patience and len(self._stop_requests()) == before:
            yield
        self._show_progress()

    # -- failing --------------------------------------------------------------------------------------------------
    def _wait_for_reports(self, job: Job) -> Iterator[None]:
        patience = time.monotonic() + _LAST_REPORTS_S
        while time.monotonic() < patience:
            ended = [rank for rank, report in self._reports().items() if report["status"] in ENDED]
            if len({*ended, *self._vanished(job)}) == self._world_size:
                break
            yield
        self._show_progress()

    def _error(self, job: Job) -> dict[str, Any]:
        culprit = find_culprit(self._reports(), self._vanished(job), self._world_size)
        return add_log(culprit, self._attempt.folder, self._attempt.number)

    # -- looking --------------------------------------------------------------------------------------------------
    def _vanished(self, job: Job) -> list[int]:
        return [rank for rank, worker in job.workers().items() if not processes.is_alive(worker)]

    def _reports(self) -> dict[int, Report]:
        return read_reports(self._attempt.folder, self._world_size, self._attempt.number)

    def _show_progress(self) -> None:
        for row in self._tail.rows():
            self._display.show(row)
