"""The next attempt of each run."""

from __future__ import annotations

import os
from collections.abc import Sequence

from launcher.config.run_plan import RunPlan
from launcher.execution.backends.base import Attempt
from launcher.runs.run_folder import RunFolder


def next_attempts(plans: Sequence[RunPlan]) -> list[Attempt]:
    """Return the next attempt of every plan."""
    folders = [RunFolder(plan.run_dir) for plan in plans]
    return [
        Attempt(plan, folder, folder.next_attempt(), chosen_gpus()) for plan, folder in zip(plans, folders, strict=True)
    ]


def chosen_gpus() -> str | None:
    """Return the user's ``CUDA_VISIBLE_DEVICES``, None if it is not set."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")
