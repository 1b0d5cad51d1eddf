"""Worker processes on this machine, through submitit's local executor."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from launcher import processes
from launcher.backends.base import Attempt, Outcome, SubmissionFailed
from launcher.processes import Process
from launcher.supervise import Supervisor

if TYPE_CHECKING:
    from launcher.progress import Display

_FOR_EVER_MIN = 60 * 24 * 365
"""submitit's own limit cannot be switched off, only be out of reach."""


class LocalBackend:
    """One submitit job with a task per worker; nodes are folded into this machine."""

    def run(self, attempt: Attempt, display: Display) -> Outcome:
        """Start the workers, watch them, and leave none behind."""
        processes.adopt_orphans()
        mine = os.getpid()
        before = processes.descendants(mine)
        supervisor = Supervisor(attempt, display)
        with supervisor.signals():
            try:
                supervisor.watch(LocalJob(attempt))
            finally:
                processes.kill(lambda: processes.descendants(mine) - before)
        return supervisor.outcome()


class LocalJob:
    """A started submitit job, as the supervisor sees it."""

    def __init__(self, attempt: Attempt) -> None:
        from submitit import LocalExecutor

        from launcher.worker import Worker

        self.world_size = attempt.plan.world_size
        timeout_min = attempt.plan.cluster["timeout_min"]
        try:
            executor = LocalExecutor(folder=attempt.folder.attempt(attempt.number))
            executor.update_parameters(
                tasks_per_node=self.world_size,
                timeout_min=timeout_min or _FOR_EVER_MIN,
                signal_delay_s=min(30, 15 * timeout_min) if timeout_min else 0,
                stderr_to_stdout=True,
            )
            with _environment(PYTHONSAFEPATH="1"), _signals_kept_from_children():
                self._job: Any = executor.submit(Worker(str(attempt.folder.spec), attempt.number))
        except (OSError, ValueError, RuntimeError) as error:
            raise SubmissionFailed(f"the workers could not be started: {error}") from error
        self._controller = int(self._job.job_id)
        self._workers: dict[int, Process] = {}

    def workers(self) -> dict[int, Process]:
        """Return the processes of the ranks that have been seen so far, ended ones too."""
        if len(self._workers) < self.world_size:
            for child in processes.children(self._controller):
                rank = processes.environment(child.pid, "SUBMITIT_LOCAL_GLOBALID")
                if rank is not None and child not in self._workers.values():
                    self._workers.setdefault(int(rank), child)
        return self._workers

    def is_over(self) -> bool:
        """Whether every task has ended (or whatever started them has)."""
        return bool(self._job.done())


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables for processes started meanwhile.

    ``PYTHONSAFEPATH`` keeps the working directory off the workers' import path: a stray ``launcher/`` or ``submitit/``
    there must not be taken for the installed one.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """Start children with SIGINT blocked: a terminal sends Ctrl-C to all, and only the launcher is to act on it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
