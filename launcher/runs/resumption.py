"""From what a run's folder says back to a plan, so that the run goes on as it was asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from launcher.config import checks
from launcher.config.run_plan import RunPlan, plan_of_spec, run_id_of
from launcher.config.schema import DebugOptions
from launcher.runs.find import Run
from sgp_core.errors import ConfigurationError
from sgp_core.plugins import Plugin, load_recorded_plugins


def plan_to_resume(run: Run) -> RunPlan:
    """Return the plan of a run, to be started where its folder is now; it does not fail on purpose again.

    Raises:
        ConfigurationError: its folder does not say what the run is, or what it says cannot be done (any more).
    """
    if not run.folder.path.is_dir():
        raise ConfigurationError("it has no folder: it never started, or was removed")
    if not run.spec:
        raise ConfigurationError("its spec.json cannot be read")
    try:
        plan = _here(plan_of_spec(run.spec), run)
        plan = dataclasses.replace(plan, plugins=tuple(load_recorded_plugins(plan.plugins)))
        _check_identity(plan)
        checks.check(plan)
    except TypeError as error:  # a number that is text, say
        raise ConfigurationError(f"its spec.json is damaged: {error}") from error
    return plan


def _here(plan: RunPlan, run: Run) -> RunPlan:
    """Return the plan with the folder's present place; it does not fail on purpose again."""
    run_dir = run.folder.path.absolute()
    snapshot = plan.snapshot and _found(Path(plan.snapshot), run_dir.parent)
    return dataclasses.replace(
        plan,
        run_id=run.run_id,
        name=run.name,
        debug=DebugOptions(anomaly=plan.debug.anomaly, timeline_steps=plan.debug.timeline_steps),
        run_dir=run_dir,
        sweep=run.sweep,
        snapshot=snapshot,
        plugins=tuple(_moved(plugin, plan.snapshot, snapshot) for plugin in plan.plugins),
    )


def _found(snapshot: Path, runs_dir: Path) -> str:
    """Return where a run's copy of the code is: where it was, or where it has gone with the runs."""
    for place in (snapshot, runs_dir / "snapshots" / snapshot.name):
        if place.is_dir():
            return str(place)
    raise ConfigurationError(f"its copy of the code, {snapshot}, is gone; its own command starts it with today's")


def _moved(plugin: Plugin, before: str | None, now: str | None) -> Plugin:
    """Return a plug-in at its place in the copy of the code, if it is part of that."""
    path = Path(plugin.path)
    if before is None or now is None or not path.is_relative_to(before):
        return plugin
    return dataclasses.replace(plugin, path=str(now / path.relative_to(before)))


def _check_identity(plan: RunPlan) -> None:
    workers = checks.world_size(plan.cluster)
    if workers != plan.world_size:
        raise ConfigurationError(f"its spec.json is damaged: {workers} workers cannot be {plan.world_size}")
    today = run_id_of(plan.experiment, plan.plugins, plan.identity)
    if plan.snapshot is None and today != plan.run_id:
        raise ConfigurationError(f"its settings are those of run {today} today: they, or the code, were changed")
