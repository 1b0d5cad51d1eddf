"""The backend that runs worker processes on this machine, through submitit's local executor."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from launcher.execution.backends.base import Attempt, Outcome, SubmissionFailed
from launcher.execution.elastic_supervisor import ElasticSupervisor
from launcher.execution.environment import set_variables
from launcher.execution.snapshot import with_snapshot
from launcher.execution.supervisor import Supervisor
from launcher.system import processes
from launcher.system.processes import Process

if TYPE_CHECKING:
    from launcher.console.progress import Display
    from launcher.execution.signals import StopSignals

_NO_LIMIT_MIN = 60 * 24 * 365
"""submitit's own time limit cannot be switched off, only set out of reach."""


class LocalBackend:
    """One submitit job with a task per worker; all nodes are this machine."""

    def run(self, attempt: Attempt, display: Display, stop: StopSignals) -> Generator[None, None, Outcome]:
        """Start the workers, watch them, and leave none behind."""
        processes.adopt_orphans()
        watch = ElasticSupervisor if attempt.plan.cluster.elastic else Supervisor
        supervisor = watch(attempt, display, stop)
        job = LocalJob(attempt)
        try:
            yield from supervisor.watch(job)
        finally:
            processes.kill(job.processes)
        return supervisor.outcome()


class LocalJob:
    """A submitit job, started when this is made, as the supervisor looks at it."""

    def __init__(self, attempt: Attempt) -> None:
        from submitit import LocalExecutor

        from launcher.worker.worker import WorkerJob

        self.world_size = attempt.plan.processes
        timeout_min = attempt.plan.cluster.timeout_min
        try:
            executor = LocalExecutor(folder=attempt.folder.attempt(attempt.number))
            executor.update_parameters(
                tasks_per_node=self.world_size,
                timeout_min=timeout_min or _NO_LIMIT_MIN,
                signal_delay_s=min(30, 15 * timeout_min) if timeout_min else 0,
                stderr_to_stdout=True,
            )
            with set_variables(**_environment(attempt)), _block_sigint():
                self._job: Any = executor.submit(WorkerJob(str(attempt.folder.spec), attempt.number))
        except (OSError, ValueError, RuntimeError) as error:
            raise SubmissionFailed(f"the workers could not be started: {error}") from error
        self._controller = int(self._job.job_id)
        self._workers: dict[int, Process] = {}

    def workers(self) -> dict[int, Process]:
        """Return the processes by rank, those that have ended too; ranks that have not started are missing."""
        if len(self._workers) < self.world_size:
            for child in processes.children(self._controller):
                rank = processes.environment_variable(child.pid, "SUBMITIT_LOCAL_GLOBALID")
                if rank is not None and child not in self._workers.values():
                    self._workers.setdefault(int(rank), child)
        return self._workers

    def is_over(self) -> bool:
        """Whether every task, or the process that started them, has ended."""
        return bool(self._job.done())

    def processes(self) -> set[Process]:
        """Return the processes of this job that are alive, orphans among them."""
        mark = str(self._controller)
        ours = processes.descendants(os.getpid())
        of_the_controller = {Process(self._controller, ""), *processes.descendants(self._controller)}
        return {
            process
            for process in ours
            if process.pid in {known.pid for known in of_the_controller}
            or processes.environment_variable(process.pid, "SUBMITIT_LOCAL_JOB_ID") == mark
        }


def _environment(attempt: Attempt) -> dict[str, str | None]:
    """Return the environment variables that workers start with.

    ``PYTHONSAFEPATH`` keeps the working directory off the workers' import path: a stray ``launcher/`` or ``submitit/``
    there must not be imported in place of the installed one. submitit's own lines would fill the workers' logs, so it
    writes only warnings.
    """
    code = attempt.plan.snapshot
    level = os.environ.get("SUBMITIT_LOG_LEVEL", "WARNING")
    return {
        "PYTHONSAFEPATH": "1",
        "SUBMITIT_LOG_LEVEL": level,
        **({"PYTHONPATH": with_snapshot(code)} if code else {}),
    }


@contextlib.contextmanager
def _block_sigint() -> Iterator[None]:
    """Start children with SIGINT blocked: a terminal sends Ctrl-C to all of them, and only the launcher acts on it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
