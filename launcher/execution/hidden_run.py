"""Runs of which nothing stays: in a hidden folder beside the other runs, which the nodes of a cluster share."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.config.clusters import SlurmCluster
from launcher.config.run_plan import RunPlan
from launcher.execution.launch import start
from launcher.runs.run_folder import RunFolder


@contextlib.contextmanager
def run_hidden(plan: RunPlan, name: str, command: Sequence[str]) -> Iterator[tuple[int, RunFolder]]:
    """Run a plan to its end; give its exit code and its folder, which is gone after the block.

    Workers start as those of any run do. On SLURM the job is waited for. What goes wrong is said as for a run, and
    nothing else is.
    """
    runs_dir = plan.run_dir.parent
    runs_dir.mkdir(parents=True, exist_ok=True)
    cluster = plan.cluster
    if isinstance(cluster, SlurmCluster):
        cluster = dataclasses.replace(cluster, wait=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=runs_dir, ignore_cleanup_errors=True) as folder:
        run_dir = Path(folder, plan.run_id)
        hidden = dataclasses.replace(plan, name=name, cluster=cluster, trackers=(), run_dir=run_dir, faults=())
        with contextlib.redirect_stdout(io.StringIO()):
            [code] = start([hidden], command)
        yield code, RunFolder(run_dir)
