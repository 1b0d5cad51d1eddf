"""A plan: everything one run needs, as checked plain data, and the identity that follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from launcher.config import checks
from launcher.config.coerce import checked, option_fields
from launcher.config.compose import Point
from launcher.config.run_plan import RunPlan
from launcher.config.schema import (
    CHOICES,
    LIBRARY_GROUPS,
    AlgorithmOptions,
    DebugOptions,
    GossipUnit,
    choices,
    options_class,
)
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.training.config import (
    NOTHING,
    OPTIONAL,
    CheckpointConfig,
    EvaluationConfig,
    Experiment,
    LoaderConfig,
    TrainingConfig,
)

RUN_ID_DIGITS = 10
SECTIONS = {
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
    "checkpoint": CheckpointConfig,
    "loader": LoaderConfig,
    "debug": DebugOptions,
}


@dataclass(frozen=True)
class RunSettings:
    """What stands at the top of the settings, outside any section."""

    seed: int = 0
    log_every: int = 10
    runs_dir: str = "runs"


class Rerun(StrEnum):
    """Which of the runs asked for are started that have been started before."""

    failed = "failed"
    all = "all"


@dataclass(frozen=True)
class LaunchOptions:
    """What holds for a whole command, and is no part of any run."""

    dry_run: bool = False
    snapshot: bool = False
    rerun: Rerun | None = None
    search: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "none"})


def launch_options(points: Sequence[Point]) -> LaunchOptions:
    """Return what holds for all of ``points``.

    Raises:
        ConfigurationError: a wrong type, or a sweep over such an option.
    """
    known = option_fields(LaunchOptions)
    chosen = [{key: point.settings[key] for key in known if key in point.settings} for point in points]
    for key in known:
        if len({str(given.get(key)) for given in chosen}) > 1:
            raise ConfigurationError(f"{key} holds for the whole command and cannot be swept over")
    search = _choice("search", chosen[0].pop("search", None), points[0].choices)
    return LaunchOptions(**_typed(chosen[0], LaunchOptions), search=search)


def make_plans(points: Sequence[Point]) -> list[RunPlan]:
    """Check every point and return the plans, each run once.

    Raises:
        ConfigurationError: a point is invalid; in a sweep the message says which.
    """
    plans: dict[str, RunPlan] = {}
    for number, point in enumerate(points, start=1):
        try:
            plan = make_plan(point)
        except ConfigurationError as error:
            if len(points) == 1:
                raise
            what = " ".join(point.overrides)
            raise ConfigurationError(f"point {number} of {len(points)} ({what}): {error}") from None
        plans.setdefault(plan.run_id, plan)
    return list(plans.values())


def make_plan(point: Point) -> RunPlan:
    """Turn composed settings into a checked plan.

    Raises:
        ConfigurationError: a wrong type, an unknown option, or settings that contradict each other.
    """
    settings = dict(point.settings)
    for key in option_fields(LaunchOptions):
        settings.pop(key, None)
    unit = _take_unit(settings)
    of_a_run = [group for group in [*LIBRARY_GROUPS, *CHOICES] if group != "search"]
    groups = {group: _choice(group, settings.pop(group, None), point.choices) for group in of_a_run}
    sections = {name: checked(name, settings.pop(name, {}), cls) for name, cls in SECTIONS.items()}
    for group in ("experiment", "debug"):  # presets; what they set has gone where it belongs
        settings.pop(group, None)
    top = _top_level(settings, [*groups, *sections])
    cluster = groups["cluster"]
    experiment = Experiment.from_dict(
        {
            **{group: groups[group] for group in LIBRARY_GROUPS},
            "training": sections["training"],
            "seed": top["seed"],
            "world_size": checks.world_size(cluster),
            "node_size": cluster["workers_per_node"] if unit is GossipUnit.node else 1,
        }
    )
    run_id = experiment.fingerprint()[:RUN_ID_DIGITS]
    plan = RunPlan(
        run_id=run_id,
        name=run_name(experiment.to_dict()),
        experiment=experiment.to_dict(),
        evaluation=EvaluationConfig.from_dict(sections["evaluation"]).to_dict(),
        checkpoint=CheckpointConfig.from_dict(sections["checkpoint"]).to_dict(),
        loader=LoaderConfig.from_dict(sections["loader"]).to_dict(),
        log_every=top["log_every"],
        tracker=groups["tracker"],
        cluster=cluster,
        debug=sections["debug"],
        run_dir=Path(top["runs_dir"]).expanduser().absolute() / run_id,
        overrides=tuple(point.overrides),
    )
    checks.check(plan)
    return plan


def run_name(experiment: dict[str, Any]) -> str:
    """Return a name people can read, such as ``sgp-slowmo-ring-4w-seed0``; it need not be unique.

    The topology is left out where it plays no part, under AllReduce and local SGD.
    """
    parts = [experiment["algorithm"]["name"]]
    parts += [experiment[group]["name"] for group in OPTIONAL if experiment[group]["name"] != NOTHING]
    parts += [name for name in [experiment["partition"]["name"]] if name != "iid"]
    workers, node_size = experiment["world_size"], experiment.get("node_size", 1)
    size = f"{workers}w" if node_size == 1 else f"{workers // node_size}x{node_size}w"
    rule = options_class("algorithm", experiment["algorithm"]["name"])
    parts += [experiment["topology"]["name"]] if rule.traits.gossips or rule.traits.one_sided else []
    parts += [size, f"seed{experiment['seed']}"]
    return "-".join(parts)


def _take_unit(settings: dict[str, Any]) -> GossipUnit:
    """Take what holds for every algorithm out of the options of the one that is chosen."""
    algorithm = settings.get("algorithm")
    if not isinstance(algorithm, dict):
        return GossipUnit.worker
    known = option_fields(AlgorithmOptions)
    settings["algorithm"] = {option: value for option, value in algorithm.items() if option not in known}
    given = {option: value for option, value in algorithm.items() if option in known}
    return GossipUnit(checked("algorithm", given, AlgorithmOptions)["unit"])


def _choice(group: str, given: Any, chosen: dict[str, str]) -> dict[str, Any]:
    """Return ``{"name": ..., options...}`` of one group, checked."""
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ConfigurationError(f"no {group} is chosen; known: {', '.join(choices(group))}")
    options = dict(given)
    if group == "model" and chosen.get(group) == "torchvision":
        from sgp_core.tasks.images.models.torchvision import resolve_model

        options = resolve_model(options)  # model.name may be torchvision's name
    name = options.pop("name")
    if name not in choices(group):
        raise ConfigurationError(f"unknown {group} '{name}'{did_you_mean(name, choices(group))}")
    return {"name": name, **checked(group, options, options_class(group, name))}


def _top_level(settings: dict[str, Any], sections: Sequence[str]) -> dict[str, Any]:
    known = option_fields(RunSettings)
    for key in settings:
        if key not in known:
            known_all = [*known, *option_fields(LaunchOptions), *sections]
            raise ConfigurationError(f"unknown option '{key}'{did_you_mean(key, known_all)}")
    return {**dataclasses.asdict(RunSettings()), **_typed(settings, RunSettings)}


def _typed(settings: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """Check options that stand in no section."""
    values = {}
    for key, given in settings.items():
        try:
            values[key] = checked("", {key: given}, cls)[key]
        except ConfigurationError as error:
            raise ConfigurationError(str(error).removeprefix(".")) from None
    return values
