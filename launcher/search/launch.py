"""Running a search: points are made up as earlier ones end."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.config.run_plan import RunPlan
from launcher.config.schema import SlurmCluster
from launcher.execution.attempts import attempts_of
from launcher.execution.backends.base import Attempt
from launcher.execution.launch import SlurmQueue, submit
from launcher.execution.run_lifecycle import FAILED, OK

if TYPE_CHECKING:
    from launcher.search.search import Search


def launch_search(search: Search, command: Sequence[str]) -> int:
    """Run a search until it has made all its trials, and return the exit code."""
    if search.options.dry_run:
        from launcher.execution.dry_run import show

        show([search.example()])
        return OK
    example = search.open()
    if isinstance(example.cluster, SlurmCluster):
        from launcher.execution.slurm_wait import run_feed

        codes = run_feed(search, lambda plan: _submitted(plan, command))
    else:
        from launcher.execution.local_queue import run_queue

        codes = run_queue([], command, search)
    print(f"\n{search.best(example)}; all of them: sgp table {example.sweep}")
    return max(codes) if codes and max(codes) > 128 else (FAILED if any(codes) else OK)


def _submitted(plan: RunPlan, command: Sequence[str]) -> Attempt | None:
    """Submit one run, unless SLURM has it already; None if sbatch refused."""
    [attempt] = attempts_of([plan])
    if SlurmQueue().job_of(attempt.folder) is not None:
        return dataclasses.replace(attempt, number=attempt.number - 1)
    return None if submit([attempt], command) else attempt
