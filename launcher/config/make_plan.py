"""From composed settings to a checked plan, and the identity that follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from launcher.config import checks
from launcher.config.coerce import coerce_options, coerce_settings
from launcher.config.compose import Point
from launcher.config.plugins import plugin_names
from launcher.config.run_plan import Identity, RunPlan, run_id_of
from launcher.config.schema import (
    CHOICES,
    LIBRARY_GROUPS,
    SECTIONS,
    AlgorithmOptions,
    Choice,
    Cluster,
    GossipUnit,
    SearchOptions,
    choices,
    option_fields,
    options_class,
)
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.plugins import load_plugins
from sgp_core.registry import NOT_AN_OPTION
from sgp_core.tasks.models import Model
from sgp_core.training.config import NOTHING, OPTIONAL, EvaluationConfig, Experiment, named_choice


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run that stand at the top, outside of any section."""

    plugins: list[str] = field(default_factory=list)
    seed: int = 0
    log_every: int = 10
    runs_dir: str = "runs"
    callbacks: list[Any] = field(default_factory=list)
    identity: Identity = Identity.settings


class Rerun(StrEnum):
    """Which runs are started again that have been started before."""

    failed = "failed"
    all = "all"


@dataclass(frozen=True)
class LaunchOptions:
    """Settings of a whole command, which are no part of any run."""

    dry_run: bool = False
    snapshot: bool = False
    rerun: Rerun | None = None
    search: SearchOptions | None = field(default=None, metadata=NOT_AN_OPTION)


def launch_options(points: Sequence[Point]) -> LaunchOptions:
    """Return the settings that hold for the whole command.

    Raises:
        ConfigurationError: a value of the wrong type, or a sweep over such a setting.
    """
    known = _of_the_command()
    chosen = [{key: point.settings[key] for key in known if key in point.settings} for point in points]
    for key in known:
        if len({str(given.get(key)) for given in chosen}) > 1:
            raise ConfigurationError(f"{key} holds for the whole command and cannot be swept over")
    search = _launcher_choice("search", chosen[0].pop("search", None))
    options = coerce_settings("", chosen[0], LaunchOptions)
    return dataclasses.replace(options, search=search if isinstance(search, SearchOptions) else None)


def make_plans(points: Sequence[Point]) -> list[RunPlan]:
    """Check every point, and return a plan for each run. Points of equal run id are one run.

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
    settings = {key: value for key, value in point.settings.items() if key not in _of_the_command()}
    settings["plugins"] = plugin_names(settings.get("plugins"))
    plugins = load_plugins(settings["plugins"])
    unit = _take_unit(settings)
    groups = {group: _library_choice(group, settings.pop(group, None), point) for group in LIBRARY_GROUPS}
    cluster = _launcher_choice("cluster", settings.pop("cluster", None))
    tracker = _launcher_choice("tracker", settings.pop("tracker", None))
    assert isinstance(cluster, Cluster)
    sections: dict[str, Any] = {
        name: coerce_settings(name, settings.pop(name, {}), cls) for name, cls in SECTIONS.items()
    }
    settings.pop("experiment", None)  # a preset; what it sets has gone where it belongs
    top = _top_level(settings, [*LIBRARY_GROUPS, *CHOICES, *SECTIONS])
    evaluation: EvaluationConfig = sections["evaluation"]
    evaluation.metrics = _library_choices("metric", evaluation.metrics)
    experiment = Experiment(
        **groups,
        callbacks=_library_choices("callback", top.callbacks),
        training=sections.pop("training"),
        seed=top.seed,
        world_size=checks.world_size(cluster),
        node_size=cluster.workers_per_node if unit is GossipUnit.node else 1,
    )
    run_id = run_id_of(experiment, plugins, top.identity)
    plan = RunPlan(
        run_id=run_id,
        name=run_name(experiment),
        experiment=experiment,
        cluster=cluster,
        tracker=tracker,
        log_every=top.log_every,
        run_dir=Path(top.runs_dir).expanduser().absolute() / run_id,
        overrides=tuple(point.overrides),
        plugins=tuple(plugins),
        identity=top.identity,
        **sections,
    )
    checks.check(plan)
    return plan


def run_name(experiment: Experiment) -> str:
    """Return a name for people, such as ``sgp-slowmo-ring-4w-seed0``; it need not be unique.

    The topology is left out where no messages follow it: under AllReduce and local SGD.
    """
    parts = [experiment.algorithm["name"]]
    parts += [chosen["name"] for chosen in map(partial(getattr, experiment), OPTIONAL) if chosen["name"] != NOTHING]
    parts += [experiment.partition["name"]] if experiment.partition["name"] != "iid" else []
    workers, node_size = experiment.world_size, experiment.node_size
    size = f"{workers}w" if node_size == 1 else f"{workers // node_size}x{node_size}w"
    rule = options_class("algorithm", experiment.algorithm["name"])
    parts += [experiment.topology["name"]] if rule.traits.gossips or rule.traits.one_sided else []
    parts += [size, f"seed{experiment.seed}"]
    return "-".join(parts)


def _of_the_command() -> set[str]:
    """Return the settings that belong to the command, not to a run."""
    return {*option_fields(LaunchOptions), "search"}


def _take_unit(settings: dict[str, Any]) -> GossipUnit:
    """Remove the options of all algorithms from those of the chosen one, and return the gossip unit."""
    algorithm = settings.get("algorithm")
    if not isinstance(algorithm, dict):
        return GossipUnit.worker
    known = option_fields(AlgorithmOptions)
    settings["algorithm"] = {option: value for option, value in algorithm.items() if option not in known}
    given = {option: value for option, value in algorithm.items() if option in known}
    return coerce_settings("algorithm", given, AlgorithmOptions).unit


def _library_choice(group: str, given: Any, point: Point) -> dict[str, Any]:
    """Return ``{"name": ..., options...}`` of a group of the library, with options of the right types."""
    name, options = _name_and_options(group, given)
    file = point.choices.get(group)
    if group == "model" and file in choices(group):
        cls: type[Model] = options_class(group, file)
        options = cls.resolve_choice({"name": name, **options})  # model.name may be an architecture's
        name = options.pop("name")
    return {"name": name, **coerce_options(group, options, options_class(group, name))}


def _library_choices(group: str, given: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the choices of a list, each given by its name or as ``{name: ..., options...}``."""
    chosen = [_name_and_options(group, named_choice(entry)) for entry in given]
    return [{"name": name, **coerce_options(group, options, options_class(group, name))} for name, options in chosen]


def _launcher_choice(group: str, given: Any) -> Choice:
    """Return the choice made in a group of the launcher's own."""
    name, options = _name_and_options(group, given)
    cls: type[Choice] = options_class(group, name)
    return coerce_settings(group, options, cls)


def _name_and_options(group: str, given: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ConfigurationError(f"no {group} is chosen; known: {', '.join(choices(group))}")
    return given["name"], {option: value for option, value in given.items() if option != "name"}


def _top_level(settings: dict[str, Any], sections: Sequence[str]) -> RunSettings:
    known = option_fields(RunSettings)
    for key in settings:
        if key not in known:
            known_all = [*known, *option_fields(LaunchOptions), *sections]
            raise ConfigurationError(f"unknown option '{key}'{did_you_mean(key, known_all)}")
    return coerce_settings("", settings, RunSettings)
