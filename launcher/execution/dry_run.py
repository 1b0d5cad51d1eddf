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

    for plan in plans:
        print(f"# {announcement(plan, RunFolder(plan.run_dir))}")
        spec = plan.spec()
        settings = {"run_id": plan.run_id, **spec["experiment"]}
        print(OmegaConf.to_yaml({**settings, **{key: spec[key] for key in ("evaluation", "checkpoint", "tracker")}}))
    submitted = [plan for plan in plans if isinstance(plan.cluster, SlurmCluster)]
    if submitted:
        from launcher.execution.backends.slurm import make_arrays

        for array in make_arrays(next_attempts(submitted)):
            print(f"# to sbatch, for {', '.join(attempt.plan.run_id for attempt in array.attempts)}:")
            print(array.script(), end="")
