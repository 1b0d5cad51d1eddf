"""The next attempt of each run."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.config.run_plan import RunPlan
from launcher.execution.backends.base import Attempt
from launcher.execution.run_lifecycle import visible_gpus
from launcher.runs.run_folder import RunFolder


def attempts_of(plans: Sequence[RunPlan]) -> list[Attempt]:
    """Return the next attempt of every plan."""
    folders = [RunFolder(plan.run_dir) for plan in plans]
    return [
        Attempt(plan, folder, folder.next_attempt(), visible_gpus())
        for plan, folder in zip(plans, folders, strict=True)
    ]
