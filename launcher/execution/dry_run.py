"""``dry_run=true``: print what would be started, and start nothing."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.config.clusters import SlurmCluster
from launcher.config.run_plan import RunPlan
from launcher.execution.attempts import next_attempts
from launcher.execution.run_lifecycle import announcement
from launcher.runs.run_folder import RunFolder


def print_plans(plans: Sequence[RunPlan]) -> None:
    """Print every experiment with its run id, and the exact text that sbatch would be given."""
    from omegaconf import OmegaConf

    for number, plan in enumerate(plans, start=1):
        label = f"[{number}/{len(plans)}] " if len(plans) > 1 else ""
        print(f"# {label}{announcement(plan, RunFolder(plan.run_dir))}")
        spec = plan.spec()
        settings = {"run_id": plan.run_id, **spec["experiment"]}
        print(OmegaConf.to_yaml({**settings, **{key: spec[key] for key in ("evaluation", "checkpoint", "tracker")}}))
    submitted = [plan for plan in plans if isinstance(plan.cluster, SlurmCluster)]
    if submitted:
        from launcher.execution.backends.slurm import make_arrays

        for array in make_arrays(next_attempts(submitted)):
            tasks = [f"{attempt.plan.title} ({attempt.plan.run_id})" for attempt in array.attempts]
            print(f"# to sbatch, for {', '.join(tasks)}:")
            print(array.script(), end="")
