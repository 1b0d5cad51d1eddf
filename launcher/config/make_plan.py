"""From composed settings to a checked plan, and the identity that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from launcher.config import checks
from launcher.config.choice import option_fields
from launcher.config.clusters import Cluster
from launcher.config.coerce import (
    coerce_launcher_choice,
    coerce_library_choice,
    coerce_library_choices,
    coerce_settings,
    coerce_trackers,
)
from launcher.config.compose import Point
from launcher.config.extension import extend
from launcher.config.former_order import as_begun
from launcher.config.launch_options import LaunchOptions, command_settings
from launcher.config.plugins import plugin_names
from launcher.config.redact import redact, without_secrets
from launcher.config.run_plan import Identity, RunPlan, clock_of, run_id_of
from launcher.config.schema import CHOICES, LIBRARY_GROUPS, SECTIONS, AlgorithmOptions, GossipUnit, options_class
from launcher.config.weights import locate_weights
from sgp_core.bounds import between
from sgp_core.clock.choices import check_clock, with_content
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.faults import parse_faults
from sgp_core.faults.links import link_faults
from sgp_core.plugins import load_plugins
from sgp_core.training.config import NOTHING, OPTIONAL, EvaluationConfig, Experiment
from sgp_core.training.experiment import build_metrics, build_parts
from sgp_core.training.groups import CLOCK_GROUPS
from sgp_core.training.virtual.limits import check_virtual


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run that stand at the top, outside of any section."""

    name: str | None = None
    plugins: list[str] = field(default_factory=list)
    seed: int = field(default=0, metadata=between(0, 2**64 - 1))
    log_every: int = field(default=10, metadata=between(1))
    runs_dir: str = "runs"
    callbacks: list[Any] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    identity: Identity = Identity.settings
    extend: str | None = None


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


def make_plan(point: Point, *, needs_data: bool = True) -> RunPlan:
    """Turn composed settings into a checked plan.

    Args:
        needs_data: whether the data have to be there.

    Raises:
        ConfigurationError: a wrong type, an unknown option, or settings that contradict each other.
    """
    settings = {key: value for key, value in point.settings.items() if key not in command_settings()}
    settings["plugins"] = plugin_names(settings.get("plugins"))
    plugins = load_plugins(settings["plugins"])
    unit = _take_unit(settings)
    groups = {
        group: coerce_library_choice(group, settings.pop(group, None), point.choices.get(group))
        for group in LIBRARY_GROUPS
    }
    clock = {group: with_content(group, groups.pop(group)) for group in CLOCK_GROUPS}
    cluster = coerce_launcher_choice("cluster", settings.pop("cluster", None), point.choices.get("cluster"))
    trackers = coerce_trackers(settings.pop("tracker", None), point.choices.get("tracker"))
    assert isinstance(cluster, Cluster)
    sections: dict[str, Any] = {
        name: coerce_settings(name, settings.pop(name, {}), cls) for name, cls in SECTIONS.items()
    }
    settings.pop("experiment", None)  # a preset; its settings are merged into the others
    top = _top_level(settings, [*LIBRARY_GROUPS, *CHOICES, *SECTIONS])
    runs_dir = Path(top.runs_dir).expanduser().absolute()
    groups["model"] = locate_weights(groups["model"], runs_dir)
    evaluation: EvaluationConfig = sections["evaluation"]
    evaluation.metrics = coerce_library_choices("metric", evaluation.metrics)
    experiment = Experiment(
        **groups,
        callbacks=coerce_library_choices("callback", top.callbacks),
        training=sections.pop("training"),
        seed=top.seed,
        world_size=checks.world_size(cluster),
        node_size=cluster.workers_per_node if unit is GossipUnit.node else 1,
    )
    if top.extend is not None:
        experiment = extend(experiment, top.extend, runs_dir)
    identify = partial(run_id_of, plugins=plugins, identity=top.identity, clock=clock_of(cluster, **clock))
    experiment = as_begun(experiment, identify, runs_dir)
    run_id = identify(experiment)
    plan = RunPlan(
        run_id=run_id,
        name=run_name(experiment) if top.name is None else redact(top.name),
        experiment=experiment,
        cluster=cluster,
        trackers=tuple(map(without_secrets, trackers)),
        log_every=top.log_every,
        run_dir=runs_dir / run_id,
        overrides=tuple(map(redact, point.overrides)),
        plugins=tuple(plugins),
        identity=top.identity,
        faults=tuple(top.faults),
        network=clock["network"],
        computation=clock["computation"],
        **sections,
    )
    checks.check(plan)
    _check_experiment(plan, needs_data)
    return plan


def _check_experiment(plan: RunPlan, needs_data: bool) -> None:
    """Build every part, which is cheap: each refuses options of its own, and parts that do not go with it."""
    cluster = plan.cluster
    if cluster.virtual:
        chosen = {group: getattr(plan, group)["name"] != NOTHING for group in ("network", "computation")}
        check_virtual(**chosen)
    parts = build_parts(plan.experiment, step_in_backward=cluster.step_in_backward, elastic=cluster.elastic)
    build_metrics(plan.evaluation.metrics, parts.kind)
    if (links := link_faults(parse_faults(plan.faults))) is not None:
        links.check(parts.algorithm, cluster.transport)
    if needs_data:
        parts.dataset.check()
    check_clock(plan.network, plan.computation, plan.world_size)


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


def _take_unit(settings: dict[str, Any]) -> GossipUnit:
    """Remove the options of all algorithms from those of the chosen one, and return the gossip unit."""
    algorithm = settings.get("algorithm")
    if not isinstance(algorithm, dict):
        return GossipUnit.worker
    known = option_fields(AlgorithmOptions)
    settings["algorithm"] = {option: value for option, value in algorithm.items() if option not in known}
    given = {option: value for option, value in algorithm.items() if option in known}
    return coerce_settings("algorithm", given, AlgorithmOptions).unit


def _top_level(settings: dict[str, Any], sections: Sequence[str]) -> RunSettings:
    known = option_fields(RunSettings)
    for key in settings:
        if key not in known:
            known_all = [*known, *option_fields(LaunchOptions), *sections]
            raise ConfigurationError(f"unknown option '{key}'{did_you_mean(key, known_all)}")
    return coerce_settings("", settings, RunSettings)
