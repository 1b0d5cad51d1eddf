"""Watching the workers of one attempt: all of them count, and the first to fail ends it.

Workers are judged by what they wrote of themselves (``rank-<k>.json``) and by whether they are alive, not by exit
codes, which submitit's local executor does not tell.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from launcher.console.progress import Tail
from launcher.execution.backends.base import Attempt, Outcome
from launcher.execution.signals import StopSignals
from launcher.runs.failure import ENDED, SUCCESSFUL, Report, add_log, find_culprit, read_reports
from launcher.system import processes

if TYPE_CHECKING:
    from launcher.console.progress import Display

_LAST_WORDS_S = 1.5
"""After a failure, how long the other workers may take to say how they ended, and to close what they have open."""
_SAVE_S = 60.0
"""After a request to stop, how long workers may take to save."""
_CLOSE_S = 90.0
"""After success, how long workers may take to close trackers and leave."""


class Job(Protocol):
    """Started workers."""

    def workers(self) -> dict[int, processes.Process]:
        """Return the processes of the ranks that have been seen so far, ended ones too."""

    def is_over(self) -> bool:
        """Whether every worker has ended."""


class Supervisor:
    """Watches one attempt. Ending what is left of it is the backend's part."""

    def __init__(self, attempt: Attempt, display: Display, stop: StopSignals) -> None:
        self._attempt = attempt
        self._display = display
        self._stop = stop
        self._world_size = attempt.plan.world_size
        self._asked_here: list[int] = []
        self._failure: dict[str, Any] | None = None
        self._tail = Tail(attempt.folder.progress(attempt.number))

    def watch(self, job: Job) -> Iterator[None]:
        """Look again each time the caller comes back.

        The end is reached when every worker has ended well, one has failed, or they were told to stop and did, or
        did not in time.
        """
        stop_by: float | None = None
        while True:
            self._show_progress()
            over, vanished = job.is_over(), self._vanished(job)
            said = self._reports()
            lost = [rank for rank in vanished if said.get(rank, {}).get("status") not in ENDED]
            failed = [rank for rank, report in said.items() if report["status"] in ("failed", "cancelled")]
            if len(said) == self._world_size and all(report["status"] in SUCCESSFUL for report in said.values()):
                yield from self._wait_for_exit(job)
                return
            asked = self._asked()
            if asked and stop_by is None:
                if not self._ask_to_stop(job, said):
                    return
                stop_by = time.monotonic() + _SAVE_S
            if stop_by is not None and (over or len(asked) > 1 or time.monotonic() > stop_by):
                return
            if stop_by is None and (failed or lost or over):
                yield from self._last_words(job)
                self._failure = self._error(job)
                return
            yield

    def outcome(self) -> Outcome:
        """Return how the attempt ended."""
        said = self._reports()
        statuses = {report["status"] for report in said.values()}
        complete = len(said) == self._world_size
        if complete and statuses == {"completed"}:
            return Outcome("completed")
        if self._failure is not None:
            return Outcome("failed", error=self._failure)
        saved = complete and statuses <= set(SUCCESSFUL)
        if asked := self._asked():
            status = "preempted" if saved and asked[0] != signal.SIGINT else "cancelled"
            return Outcome(status, signal=next(iter(self._stop.received), None))
        return Outcome("preempted" if saved else "failed")

    # -- stopping -------------------------------------------------------------------------------------------------
    def _asked(self) -> list[int]:
        """Return the signals that ask this attempt to stop; a wish left in its folder counts as Ctrl-C."""
        if self._attempt.folder.cancel.exists():
            self._attempt.folder.cancel.unlink(missing_ok=True)
            self._asked_here.append(signal.SIGINT)
        return [*self._stop.received, *self._asked_here]

    def _ask_to_stop(self, job: Job, said: dict[int, Report]) -> bool:
        """Ask for a last checkpoint; False if there is nothing to save yet."""
        training = [rank for rank, report in said.items() if report["status"] == "training"]
        if len(training) < self._world_size:
            self._display.say("stopping")
            return False
        self._display.say("stopping: saving a checkpoint; once more to stop at once")
        for worker in job.workers().values():
            processes.send_signal(worker, signal.SIGTERM)
        return True

    def _wait_for_exit(self, job: Job) -> Iterator[None]:
        patience = time.monotonic() + _CLOSE_S
        asked = len(self._asked())
        while not job.is_over() and time.monotonic() < patience and len(self._asked()) == asked:
            yield
        self._show_progress()

    # -- failing --------------------------------------------------------------------------------------------------
    def _last_words(self, job: Job) -> Iterator[None]:
        patience = time.monotonic() + _LAST_WORDS_S
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
