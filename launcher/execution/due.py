"""Which of the runs that a command asks for have to be started."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from launcher.config.former_order import began_before
from launcher.config.launch_options import Rerun
from launcher.config.run_plan import RunPlan
from launcher.console.summary import print_complete, relative
from launcher.execution.provenance import input_changes
from launcher.execution.run_lifecycle import LIVE
from launcher.execution.slurm_submission import SlurmQueue
from launcher.execution.unused_clock import print_unused_clock
from launcher.runs.run_folder import RunFolder, RunInProgress
from sgp_core.atomic_files import read_json


def find_due(plans: Sequence[RunPlan], rerun: Rerun | None) -> list[RunPlan]:
    """Return the plans to start. Print why the others are not started, and which settings these do not heed.

    Raises:
        RunInProgress: the only plan's run is on SLURM already.
    """
    due, complete, submitted = [], [], []
    queue = SlurmQueue()
    for plan in plans:
        folder = RunFolder(plan.run_dir)
        status = folder.status()
        if status == "completed" and rerun != Rerun.all:
            complete.append(folder)
        elif (job := queue.find_job(folder)) is not None:
            submitted.append((plan, job))
        elif rerun != Rerun.failed or status in ("failed", *LIVE):  # a dead run may have left a live status
            due.append(plan)
    _print_former_orders(plans)
    if submitted and len(plans) == 1:
        plan, job = submitted[0]
        raise RunInProgress(f"{relative(plan.run_dir)} is on SLURM already, as job {job}")
    if complete:
        _print_changed_inputs([plan for plan in plans if RunFolder(plan.run_dir) in complete])
    if complete and len(plans) == 1:
        print_complete(read_json(complete[0].summary) or {}, complete[0].path)
    elif len(plans) > 1:
        counts = {
            "complete already": len(complete),
            "on SLURM already": len(submitted),
            "not failed": len(plans) - len(due) - len(complete) - len(submitted),
        }
        others = [f"{count} {what}" for what, count in counts.items() if count]
        print(f"sweep {plans[0].sweep}: {len(plans)} runs, {', '.join([*others, f'{len(due)} to start'])}", flush=True)
    print_unused_clock(due)
    return due


def _print_changed_inputs(complete: Sequence[RunPlan]) -> None:
    """Print of each complete run that its graph has been edited since: it is not trained again for that."""
    for plan in complete:
        for change in input_changes(RunFolder(plan.run_dir), plan):
            print(f"warning: {plan.title}: {change}; rerun=all trains anew", file=sys.stderr)


def _print_former_orders(plans: Sequence[RunPlan]) -> None:
    """Print how many runs go on in an order that their settings no longer mean, as ``algorithm=osgp`` did in 0.1."""
    hidden = [plan for plan in plans if plan.experiment.algorithm.get("overlap_steps") == 1]
    if former := sum(began_before(plan.run_dir) for plan in hidden):
        whose = "this run" if len(plans) == 1 else f"{former} of {len(plans)} runs"
        today = "add algorithm.order=adapt_while_communicate for today's order"
        print(f"{whose}: order=adapt_then_combine, as begun by 0.1; {today}", flush=True)


def set_aside(folder: RunFolder) -> None:
    """Move a run's folder to ``replaced/``, so that the run can start from the beginning.

    Raises:
        RunInProgress: the run is in progress.
    """
    if folder.path.exists():
        with folder.lock():
            target = folder.path.parent / "replaced" / f"{folder.path.name}-{time.strftime('%Y%m%d-%H%M%S')}"
            target.parent.mkdir(exist_ok=True)
            os.rename(folder.path, target)
