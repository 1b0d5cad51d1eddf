"""Running a search: each new point is chosen when there is room for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.config.clusters import SlurmCluster
from launcher.config.run_plan import RunPlan
from launcher.execution.attempts import next_attempts
from launcher.execution.backends.base import Attempt
from launcher.execution.run_lifecycle import FAILED, OK
from launcher.execution.slurm_submission import SlurmQueue, submit
from launcher.execution.unused_clock import print_unused_clock

if TYPE_CHECKING:
    from launcher.search.search import Search


def launch_search(search: Search, command: Sequence[str]) -> int:
    """Run all trials of a search, and return the exit code."""
    if search.options.dry_run:
        from launcher.execution.dry_run import print_plans

        print_plans([search.example()])
        return OK
    example = search.open()
    print_unused_clock([example])
    if isinstance(example.cluster, SlurmCluster):
        from launcher.execution.slurm_wait import run_feed

        codes = run_feed(search, lambda plan: _submit(plan, command))
    else:
        from launcher.execution.local_queue import run_queue

        codes = run_queue([], command, search)
    print(f"\n{search.best(example)}; compare all: sgp table {example.sweep}")
    return max(codes) if codes and max(codes) > 128 else (FAILED if any(codes) else OK)


def _submit(plan: RunPlan, command: Sequence[str]) -> Attempt | None:
    """Submit one run, unless it is on SLURM already, and return its attempt; None if sbatch refused."""
    [attempt] = next_attempts([plan])
    if SlurmQueue().find_job(attempt.folder) is not None:
        return dataclasses.replace(attempt, number=attempt.number - 1)
    return None if submit([attempt], command) else attempt
