"""From a run's spec.json back to a plan, so that the run continues with its own settings."""

from __future__ import annotations

import dataclasses

from launcher.config import checks
from launcher.config.run_plan import RunPlan, clock_of, plan_of_spec, run_id_of
from launcher.config.schema import DebugOptions
from launcher.runs.find import Run
from launcher.runs.recorded_code import find_plugins, find_snapshot
from sgp_core.errors import ConfigurationError
from sgp_core.plugins import load_recorded_plugins


def plan_to_resume(run: Run) -> RunPlan:
    """Return the plan that continues a run where its folder is now. A failure on purpose is not repeated.

    Raises:
        ConfigurationError: spec.json is missing or damaged, or names parts that are not available here.
    """
    if not run.folder.path.is_dir():
        raise ConfigurationError("it has no folder: it never started, or was removed")
    if not run.spec:
        raise ConfigurationError("its spec.json cannot be read")
    try:
        plan = _relocate(plan_of_spec(run.spec), run)
        plan = dataclasses.replace(plan, plugins=tuple(load_recorded_plugins(plan.plugins)))
        _check_identity(plan)
        checks.check(plan)
    except TypeError as error:  # a number that is text, say
        raise ConfigurationError(f"its spec.json is damaged: {error}") from error
    return plan


def _relocate(plan: RunPlan, run: Run) -> RunPlan:
    """Return the plan with the present places of the run's folder and code, and without faults on purpose."""
    run_dir = run.folder.path.absolute()
    return dataclasses.replace(
        plan,
        run_id=run.run_id,
        name=run.name,
        faults=(),
        debug=DebugOptions(anomaly=plan.debug.anomaly, timeline_steps=plan.debug.timeline_steps),
        run_dir=run_dir,
        sweep=run.sweep,
        snapshot=plan.snapshot and find_snapshot(plan.snapshot, run_dir.parent),
        plugins=find_plugins(plan.plugins, plan.snapshot, run_dir.parent),
    )


def _check_identity(plan: RunPlan) -> None:
    workers = checks.world_size(plan.cluster)
    if workers != plan.world_size:
        raise ConfigurationError(f"its spec.json is damaged: {workers} workers are not {plan.world_size}")
    clock = clock_of(plan.cluster, plan.network, plan.computation)
    today = run_id_of(plan.experiment, plan.plugins, plan.identity, clock)
    if plan.snapshot is None and today != plan.run_id:
        raise ConfigurationError(f"its settings make run {today} now: spec.json or the code was changed")
