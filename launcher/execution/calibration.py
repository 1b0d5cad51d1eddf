"""Start workers that measure, and return what they found. Nothing of it stays but that."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.config.choice import NoOptions
from launcher.config.clusters import SlurmCluster
from launcher.config.run_plan import RunPlan
from launcher.execution.launch import start
from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import read_json


def measure(plan: RunPlan, command: Sequence[str]) -> tuple[int, dict[str, Any] | None]:
    """Let the workers of ``plan`` measure instead of training; return the exit code, and what they found.

    They start as those of a run do, on this machine or through SLURM, in a hidden folder beside the runs, which the
    nodes share. What goes wrong is said as for a run.
    """
    runs_dir = plan.run_dir.parent
    runs_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".calibrate-", dir=runs_dir, ignore_cleanup_errors=True) as folder:
        cluster = plan.cluster
        if isinstance(cluster, SlurmCluster):
            cluster = dataclasses.replace(cluster, wait=True)
        measuring = dataclasses.replace(
            plan,
            name="calibrate",
            cluster=cluster,
            tracker=NoOptions(),
            run_dir=Path(folder, plan.run_id),
            faults=(),
            calibrates=True,
        )
        with contextlib.redirect_stdout(io.StringIO()):  # what is said of a run is of no use here
            [code] = start([measuring], command)
        summary = read_json(RunFolder(measuring.run_dir).summary) or {}
    return code, summary.get("calibration")
