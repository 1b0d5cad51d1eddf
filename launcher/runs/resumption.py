"""From what a run's folder says back to a plan, so that the run goes on as it was asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.config import checks
from launcher.runs.find import Run
from launcher.config.make_plan import RUN_ID_DIGITS
from launcher.config.run_plan import RunPlan, plan_of_spec
from launcher.config.schema import DebugOptions, options_class
from launcher.config.coerce import checked
from sgp_core.errors import ConfigurationError
from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment, LoaderConfig, choice

_STAYS = ("anomaly", "timeline_steps")
"""What of ``debug`` holds for the rest of a run, too."""


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
        _check_identity(plan)
        checks.check(plan)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"its spec.json is damaged: {error}") from error
    return plan


def _here(plan: RunPlan, run: Run) -> RunPlan:
    """Return the plan with the folder's present place, and defaults for what its command did not know of yet."""
    run_dir = run.folder.path.absolute()
    return dataclasses.replace(
        plan,
        run_id=run.run_id,
        name=run.name,
        experiment=Experiment.from_dict(plan.experiment).to_dict(),
        evaluation=EvaluationConfig.from_dict(plan.evaluation).to_dict(),
        checkpoint=CheckpointConfig.from_dict(plan.checkpoint).to_dict(),
        loader=LoaderConfig.from_dict(plan.loader).to_dict(),
        tracker=_chosen("tracker", plan.tracker),
        cluster=_chosen("cluster", plan.cluster),
        debug=checked("debug", {key: plan.debug[key] for key in _STAYS if key in plan.debug}, DebugOptions),
        run_dir=run_dir,
        sweep=run.sweep,
        snapshot=plan.snapshot and _found(Path(plan.snapshot), run_dir.parent),
    )


def _chosen(group: str, given: Mapping[str, Any]) -> dict[str, Any]:
    name, options = choice(given)
    return {"name": name, **checked(group, options, options_class(group, name))}


def _found(snapshot: Path, runs_dir: Path) -> str:
    """Return where a run's copy of the code is: where it was, or where it has gone with the runs."""
    for place in (snapshot, runs_dir / "snapshots" / snapshot.name):
        if place.is_dir():
            return str(place)
    raise ConfigurationError(f"its copy of the code, {snapshot}, is gone; its own command starts it with today's")


def _check_identity(plan: RunPlan) -> None:
    workers = checks.world_size(plan.cluster)
    if workers != plan.world_size:
        raise ConfigurationError(f"its spec.json is damaged: {workers} workers cannot be {plan.world_size}")
    today = Experiment.from_dict(plan.experiment).fingerprint()[:RUN_ID_DIGITS]
    if plan.snapshot is None and today != plan.run_id:
        raise ConfigurationError(f"its settings are those of run {today} today: they, or the code, were changed")
