"""From plans to runs: start or continue those that are due, here or on SLURM."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.config.clusters import SlurmCluster
from launcher.config.launch_options import LaunchOptions, Rerun
from launcher.config.run_plan import RunPlan
from launcher.console.messages import print_failure
from launcher.execution.due import find_due, set_aside
from launcher.execution.run_lifecycle import FAILED, OK, SUBMISSION_FAILED
from launcher.execution.snapshot import with_code
from launcher.runs.run_folder import RunFolder, RunInProgress
from launcher.runs.sweep import record_sweep


def launch(plans: Sequence[RunPlan], options: LaunchOptions, command: Sequence[str]) -> int:
    """Start or continue the plans that are due, and return the exit code.

    Args:
        plans: at least one; several are a sweep.
        command: the command line, recorded with every run.
    """
    try:
        due = find_due(plans, options.rerun)
        if options.rerun == Rerun.all and not options.dry_run:
            for plan in due:
                set_aside(RunFolder(plan.run_dir))
    except (RunInProgress, OSError) as error:
        return print_failure(error, SUBMISSION_FAILED)
    if options.dry_run:
        from launcher.execution.dry_run import print_plans

        print_plans(with_code(due, take=False) if options.snapshot else due)
        return OK
    if plans[0].sweep is not None:
        record_sweep(plans, command)
    if not due:
        return OK
    if options.snapshot:
        due = with_code(due, take=True)
    codes = start(due, command)
    if len(plans) > 1 and not all(_on_slurm(plan) for plan in due):
        done = len(plans) - len(due) + codes.count(OK)
        print(f"\n{done} of {len(plans)} runs ok; compare them: sgp table {plans[0].sweep}")
    return exit_code(codes)


def start(plans: Sequence[RunPlan], command: Sequence[str]) -> list[int]:
    """Submit the runs of ``cluster=slurm``, run the others until they have ended, and return exit codes."""
    submitted = [plan for plan in plans if _on_slurm(plan)]
    local = [plan for plan in plans if not _on_slurm(plan)]
    codes: list[int] = []
    if submitted:
        from launcher.execution.slurm_submission import submit_and_wait

        codes += submit_and_wait(submitted, command)
    if local:
        from launcher.execution.local_queue import run_queue

        codes += run_queue(local, command)
    return codes


def exit_code(codes: Sequence[int]) -> int:
    """Return the exit code of a command from those of its runs."""
    if len(codes) == 1 or max(codes) > 128:
        return max(codes)
    if not any(codes):
        return OK
    return SUBMISSION_FAILED if set(codes) <= {OK, SUBMISSION_FAILED} else FAILED


def _on_slurm(plan: RunPlan) -> bool:
    return isinstance(plan.cluster, SlurmCluster)
