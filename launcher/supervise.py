"""Watching the workers of one attempt: all of them count, and the first to fail ends it.

Workers are judged by what they wrote of themselves (``rank-<k>.json``) and by whether they are alive, not by exit
codes, which submitit's local executor does not tell.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from launcher import processes
from launcher.backends.base import Attempt, Outcome
from launcher.progress import Tail
from launcher.run_folder import read_json

if TYPE_CHECKING:
    from launcher.progress import Display

_POLL_S = 0.1
_LAST_WORDS_S = 1.5
"""After a failure, how long the other workers may take to say how they ended, and to close what they have open."""
_SAVE_S = 15.0
"""After a request to stop, how long workers may take to save."""
_CLOSE_S = 90.0
"""After success, how long workers may take to close trackers and leave."""
_WELL = ("completed", "preempted")
_ENDED = (*_WELL, "failed", "cancelled")
_VICTIM = re.compile(
    r"(closed|reset) by peer|connection (closed|reset|refused|aborted)|broken pipe|timed ?out|gloo/|nccl",
    re.IGNORECASE,
)


class Job(Protocol):
    """Started workers."""

    def workers(self) -> dict[int, processes.Process]:
        """Return the processes of the ranks that have been seen so far, ended ones too."""

    def is_over(self) -> bool:
        """Whether every worker has ended."""


class Supervisor:
    """Watches one attempt. Ending what is left of it is the backend's part."""

    def __init__(self, attempt: Attempt, display: Display) -> None:
        self._attempt = attempt
        self._display = display
        self._world_size = attempt.plan.world_size
        self._received: list[int] = []
        self._failure: dict[str, Any] | None = None
        self._tail = Tail(attempt.folder.progress(attempt.number))

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Note SIGINT, SIGTERM and SIGHUP instead of dying by them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def watch(self, job: Job) -> None:
        """Return when every worker has ended well, one has failed, or they were told to stop and did, or did not."""
        stop_by: float | None = None
        while True:
            self._show_progress()
            over, vanished = job.is_over(), self._vanished(job)
            reports = self._reports()
            lost = [rank for rank in vanished if reports.get(rank, {}).get("status") not in _ENDED]
            failed = [rank for rank, report in reports.items() if report["status"] in ("failed", "cancelled")]
            if len(reports) == self._world_size and all(report["status"] in _WELL for report in reports.values()):
                return self._wait_for_exit(job)
            if self._received and stop_by is None:
                if not self._ask_to_stop(job, reports):
                    return None
                stop_by = time.monotonic() + _SAVE_S
            if stop_by is not None and (over or len(self._received) > 1 or time.monotonic() > stop_by):
                return None
            if stop_by is None and (failed or lost or over):
                self._failure = self._first_failure(job)
                return None
            time.sleep(_POLL_S)

    def outcome(self) -> Outcome:
        """Return how the attempt ended."""
        statuses = {report["status"] for report in self._reports().values()}
        complete = len(self._reports()) == self._world_size
        if complete and statuses == {"completed"}:
            return Outcome("completed")
        if self._failure is not None:
            return Outcome("failed", error=self._failure)
        saved = complete and statuses <= set(_WELL)
        if self._received:
            ended_by = self._received[0]
            return Outcome("preempted" if saved and ended_by != signal.SIGINT else "cancelled", signal=ended_by)
        return Outcome("preempted" if saved else "failed")

    # -- stopping -------------------------------------------------------------------------------------------------
    def _note(self, number: int, frame: object) -> None:
        self._received.append(number)

    def _ask_to_stop(self, job: Job, reports: dict[int, dict[str, Any]]) -> bool:
        """Ask for a last checkpoint; False if there is nothing to save yet."""
        training = [rank for rank, report in reports.items() if report["status"] == "training"]
        if len(training) < self._world_size:
            self._display.say("stopping")
            return False
        self._display.say("stopping: saving a checkpoint; once more to stop at once")
        for worker in job.workers().values():
            processes.send(worker, signal.SIGTERM)
        return True

    def _wait_for_exit(self, job: Job) -> None:
        patience = time.monotonic() + _CLOSE_S
        asked = len(self._received)
        while not job.is_over() and time.monotonic() < patience and len(self._received) == asked:
            time.sleep(_POLL_S / 2)
        self._show_progress()

    # -- failing --------------------------------------------------------------------------------------------------
    def _first_failure(self, job: Job) -> dict[str, Any]:
        """Wait for the others' last words, then name the worker whose failure was not the consequence of another's."""
        patience = time.monotonic() + _LAST_WORDS_S
        while time.monotonic() < patience:
            ended = [rank for rank, report in self._reports().items() if report["status"] in _ENDED]
            if len({*ended, *self._vanished(job)}) == self._world_size:
                break
            time.sleep(_POLL_S)
        self._show_progress()
        vanished = self._vanished(job)
        reports = self._reports()
        spoken = sorted((r for r in reports.values() if r["status"] == "failed"), key=lambda report: report["time"])
        silent = [rank for rank in vanished if reports.get(rank, {}).get("status") not in _ENDED]
        culprits = [report for report in spoken if not _is_victim(report["error"])]
        if culprits or (spoken and not silent):
            report = (culprits or spoken)[0]
            return self._error(report["rank"], **report["error"])
        rank = min(silent or [rank for rank in range(self._world_size) if rank not in reports] or [0])
        message = "gone without a word: killed (kill -9, out of memory?) or crashed"
        return self._error(rank, type="WorkerDied", message=message, traceback=self._last_lines(rank))

    def _error(self, rank: int, **described: Any) -> dict[str, Any]:
        log = self._attempt.folder.log(self._attempt.number, rank)
        return {"rank": rank, "log": str(log) if log else None, **described}

    def _last_lines(self, rank: int, count: int = 15) -> str:
        log = self._attempt.folder.log(self._attempt.number, rank)
        if log is None:
            return ""
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(["last lines of its log:", *lines[-count:]]) if lines else ""

    # -- looking --------------------------------------------------------------------------------------------------
    def _vanished(self, job: Job) -> list[int]:
        return [rank for rank, worker in job.workers().items() if not processes.is_alive(worker)]

    def _reports(self) -> dict[int, dict[str, Any]]:
        """Return what each worker of this attempt says of itself."""
        reports = {}
        for rank in range(self._world_size):
            report = read_json(self._attempt.folder.rank(rank))
            if report is not None and report.get("attempt") == self._attempt.number:
                reports[rank] = report
        return reports

    def _show_progress(self) -> None:
        for row in self._tail.rows():
            self._display.show(row)


def _is_victim(error: dict[str, Any]) -> bool:
    """Whether an error is what a worker sees when another one has died."""
    return bool(_VICTIM.search(f"{error['type']}: {error['message']}"))
