"""From plans to runs: which of them are due, and where they go."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from launcher.config.make_plan import LaunchOptions, Rerun
from launcher.config.run_plan import RunPlan
from launcher.config.schema import SlurmCluster
from launcher.console.summary import print_complete, relative
from launcher.execution.attempts import attempts_of
from launcher.execution.backends.base import Attempt, SubmissionFailed
from launcher.execution.run_lifecycle import FAILED, OK, SUBMISSION_FAILED, record, set_status
from launcher.execution.snapshot import with_code
from launcher.runs.run_folder import RunFolder, RunInProgress, read_json
from launcher.runs.sweep import record_sweep
from launcher.system import slurm_cli

_LIVE = ("queued", "running")


def launch(plans: Sequence[RunPlan], options: LaunchOptions, command: Sequence[str]) -> int:
    """Start or continue what is due of ``plans``, and return the exit code."""
    try:
        due = _due(plans, options.rerun)
        if options.rerun == Rerun.all and not options.dry_run:
            for plan in due:
                _set_aside(RunFolder(plan.run_dir))
    except (RunInProgress, OSError) as error:
        return _say(str(error), SUBMISSION_FAILED)
    if options.dry_run:
        from launcher.execution.dry_run import show

        show(with_code(due, take=False) if options.snapshot else due)
        return OK
    if plans[0].sweep is not None:
        record_sweep(plans, command)
    if not due:
        return OK
    if options.snapshot:
        due = with_code(due, take=True)
    codes = start(due, command)
    if len(plans) > 1 and not all(isinstance(plan.cluster, SlurmCluster) for plan in due):
        done = len(plans) - len(due) + codes.count(OK)
        print(f"\n{done} of {len(plans)} runs ok; compare them: sgp table {plans[0].sweep}")
    return exit_code(codes)


def start(plans: Sequence[RunPlan], command: Sequence[str]) -> list[int]:
    """Start or continue runs, those that stay here until they have ended; return exit codes."""
    there = [plan for plan in plans if isinstance(plan.cluster, SlurmCluster)]
    here = [plan for plan in plans if not isinstance(plan.cluster, SlurmCluster)]
    return [*(_submit(there, command) if there else []), *(_run(here, command) if here else [])]


def exit_code(codes: Sequence[int]) -> int:
    """Return the exit code of a command whose runs had these."""
    if len(codes) == 1 or max(codes) > 128:
        return max(codes)
    if not any(codes):
        return OK
    return SUBMISSION_FAILED if set(codes) <= {OK, SUBMISSION_FAILED} else FAILED


# -- which ------------------------------------------------------------------------------------------------------------
def _due(plans: Sequence[RunPlan], rerun: Rerun | None) -> list[RunPlan]:
    """Return the plans to start, and say why others are not.

    Raises:
        RunInProgress: the only one is with SLURM already.
    """
    due, complete, submitted = [], [], []
    queue = SlurmQueue()
    for plan in plans:
        folder = RunFolder(plan.run_dir)
        status = folder.status()
        if status == "completed" and rerun != Rerun.all:
            complete.append(folder)
        elif (job := queue.job_of(folder)) is not None:
            submitted.append((plan, job))
        elif rerun != Rerun.failed or status in ("failed", *_LIVE):  # of a live run nothing is left but its status
            due.append(plan)
    if submitted and len(plans) == 1:
        plan, job = submitted[0]
        raise RunInProgress(f"{relative(plan.run_dir)} is with SLURM already, as job {job}")
    if complete and len(plans) == 1:
        print_complete(read_json(complete[0].summary) or {}, complete[0].path)
    elif len(plans) > 1:
        others = [(len(complete), "complete"), (len(submitted), "with SLURM")]
        said = [f"{number} {what} already" for number, what in others if number]
        untouched = len(plans) - len(due) - len(complete) - len(submitted)
        said += [f"{untouched} not failed"] if untouched else []
        print(f"sweep {plans[0].sweep}: {len(plans)} runs, {', '.join([*said, f'{len(due)} to start'])}", flush=True)
    return due


class SlurmQueue:
    """What SLURM has of us; asked when the first run needs it."""

    def __init__(self) -> None:
        self._jobs: dict[str, slurm_cli.QueuedJob] | None = None
        self._asked = False

    def job_of(self, folder: RunFolder) -> str | None:
        """Return the job that has the run; if SLURM is away, the one that had it when it last was heard of.

        A job that is being submitted this very moment has no number yet, and is not seen.
        """
        job = (read_json(folder.job) or {}).get("job_id")
        if job is None:
            return None
        if not self._asked:
            self._jobs, self._asked = slurm_cli.queue(), True
        if self._jobs is None:
            return str(job) if folder.status() in _LIVE else None
        return str(job) if job in self._jobs else None


def _set_aside(folder: RunFolder) -> None:
    """Keep what a run has achieved out of the way of its repetition."""
    if folder.path.exists():
        with folder.lock():
            target = folder.path.parent / "replaced" / f"{folder.path.name}-{time.strftime('%Y%m%d-%H%M%S')}"
            target.parent.mkdir(exist_ok=True)
            os.rename(folder.path, target)


# -- where ------------------------------------------------------------------------------------------------------------
def _run(plans: Sequence[RunPlan], command: Sequence[str]) -> list[int]:
    from launcher.execution.local_queue import run_queue

    return run_queue(plans, command)


def _submit(plans: Sequence[RunPlan], command: Sequence[str]) -> list[int]:
    """Submit to SLURM, and wait for the end if asked to; return exit codes."""
    attempts = attempts_of(plans)
    codes = submit(attempts, command)
    cluster = plans[0].cluster
    if not codes and isinstance(cluster, SlurmCluster) and cluster.wait:
        from launcher.execution.slurm_wait import wait_for

        return wait_for(attempts)
    return codes or [OK]


def submit(attempts: Sequence[Attempt], command: Sequence[str]) -> list[int]:
    """Submit to SLURM; return an exit code for each submission that failed."""
    from launcher.execution.backends.slurm import batches

    codes = []
    for batch in batches(attempts):
        for attempt in batch.attempts:
            attempt.folder.cancel.unlink(missing_ok=True)  # meant for an earlier job
            record(attempt, command, "queued", watched=False)
        try:
            jobs = batch.submit()
        except SubmissionFailed as error:
            for attempt in batch.attempts:
                problem = {"rank": None, "type": "SubmissionFailed", "message": str(error), "log": None}
                set_status(attempt.folder, attempt.plan, "failed", problem)
            codes.append(_say(str(error), SUBMISSION_FAILED))
            continue
        plan = batch.attempts[0].plan
        number = jobs[0].partition("_")[0]
        what = f"array of {len(jobs)}" if len(jobs) > 1 else plan.name
        print(f"submitted job {number} ({what}): sgp status {plan.sweep if len(jobs) > 1 else plan.run_id}", flush=True)
    return codes


def _say(message: str, code: int) -> int:
    print(f"sgp-train: {message}", file=sys.stderr)
    return code
