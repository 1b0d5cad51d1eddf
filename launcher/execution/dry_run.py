"""``dry_run=true``: what would be done, and nothing done."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.config.run_plan import RunPlan
from launcher.config.schema import SlurmCluster
from launcher.execution.attempts import attempts_of
from launcher.execution.run_lifecycle import announced
from launcher.runs.run_folder import RunFolder


def show(plans: Sequence[RunPlan]) -> None:
    """Print every experiment with its run id, and the very text that sbatch would be given."""
    from omegaconf import OmegaConf

    for plan in plans:
        print(f"# {announced(plan, RunFolder(plan.run_dir))}")
        spec = plan.spec()
        settings = {"run_id": plan.run_id, **spec["experiment"]}
        print(OmegaConf.to_yaml({**settings, **{key: spec[key] for key in ("evaluation", "checkpoint", "tracker")}}))
    submitted = [plan for plan in plans if isinstance(plan.cluster, SlurmCluster)]
    if submitted:
        from launcher.execution.backends.slurm import batches

        for batch in batches(attempts_of(submitted)):
            print(f"# to sbatch, for {', '.join(attempt.plan.run_id for attempt in batch.attempts)}:")
            print(batch.script(), end="")
