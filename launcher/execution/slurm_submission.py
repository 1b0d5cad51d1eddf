"""Submitting runs to SLURM, and finding those that SLURM has already."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.config.clusters import SlurmCluster
from launcher.config.extension import describe_extension
from launcher.config.run_plan import RunPlan
from launcher.console.messages import print_failure
from launcher.execution.attempts import next_attempts
from launcher.execution.backends.base import Attempt, SubmissionFailed
from launcher.execution.run_lifecycle import LIVE, OK, SUBMISSION_FAILED, record, set_status
from launcher.runs.run_folder import RunFolder
from launcher.system import slurm_cli
from sgp_core.atomic_files import read_json

_MOST_TASKS = 20
"""The most tasks of an array that are printed."""


class SlurmQueue:
    """The user's jobs on SLURM, read when they are first needed."""

    def __init__(self) -> None:
        self._jobs: dict[str, slurm_cli.QueuedJob] | None = None
        self._is_read = False

    def find_job(self, folder: RunFolder) -> str | None:
        """Return the job that has the run; if SLURM does not answer, the one that had it when it last reported.

        A job that is being submitted at this moment has no number yet and is not found.
        """
        job = (read_json(folder.job) or {}).get("job_id")
        if job is None:
            return None
        if not self._is_read:
            self._jobs, self._is_read = slurm_cli.queue(), True
        if self._jobs is None:
            return str(job) if folder.status() in LIVE else None
        return str(job) if job in self._jobs else None


def submit_and_wait(plans: Sequence[RunPlan], command: Sequence[str]) -> list[int]:
    """Submit runs, wait for their end if ``cluster.wait`` is set, and return exit codes."""
    attempts = next_attempts(plans)
    codes = submit(attempts, command)
    cluster = plans[0].cluster
    if not codes and isinstance(cluster, SlurmCluster) and cluster.wait:
        from launcher.execution.slurm_wait import wait_for

        return wait_for(attempts)
    return codes or [OK]


def submit(attempts: Sequence[Attempt], command: Sequence[str]) -> list[int]:
    """Submit attempts; return an exit code for each submission that failed."""
    from launcher.execution.backends.slurm import make_arrays

    codes = []
    for array in make_arrays(attempts):
        for attempt in array.attempts:
            attempt.folder.cancel.unlink(missing_ok=True)  # it was meant for an earlier job
            record(attempt, command, "queued", watched=False)
        try:
            jobs = array.submit()
        except SubmissionFailed as error:
            for attempt in array.attempts:
                problem = {"rank": None, "type": "SubmissionFailed", "message": str(error), "log": None}
                set_status(attempt.folder, attempt.plan, "failed", problem)
            codes.append(print_failure(error, SUBMISSION_FAILED))
            continue
        plan = array.attempts[0].plan
        for attempt in array.attempts:
            if attempt.plan.experiment.extends is not None:
                print(f"{attempt.plan.title}: {describe_extension(attempt.plan.experiment, plan.run_dir.parent)}")
        number = jobs[0].partition("_")[0]
        what = f"array of {len(jobs)}" if len(jobs) > 1 else plan.name
        print(f"submitted job {number} ({what}): sgp status {plan.sweep if len(jobs) > 1 else plan.run_id}", flush=True)
        if len(jobs) > 1:
            _print_tasks(array.attempts, jobs)
    return codes


def _print_tasks(attempts: Sequence[Attempt], jobs: Sequence[str]) -> None:
    """Print which task of an array has which run."""
    for job, attempt in list(zip(jobs, attempts, strict=True))[:_MOST_TASKS]:
        print(f"  {job}  {attempt.plan.title}", flush=True)
    if len(jobs) > _MOST_TASKS:
        print(f"  ... and {len(jobs) - _MOST_TASKS} more", flush=True)
