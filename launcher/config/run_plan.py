"""A plan: everything one run needs, checked and typed, and its record in ``spec.json``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from launcher.config.choice import Choice
from launcher.config.clusters import Cluster
from launcher.config.former_order import with_former_order
from launcher.config.schema import SECTIONS, Sections, choice_of_spec
from launcher.config.trackers import spec_of_trackers, trackers_in_spec
from sgp_core.bounds import between, check_numbers
from sgp_core.errors import ConfigurationError
from sgp_core.plugins import Plugin
from sgp_core.training.config import NOTHING, Experiment
from sgp_core.training.experiment import score_facts
from sgp_core.training.settings import Settings

SCHEMA_VERSION = 1
RUN_ID_DIGITS = 10


class Identity(StrEnum):
    """What defines a run, and so decides its id."""

    settings = "settings"
    """The settings of its experiment."""
    code = "code"
    """The settings and the source of its plug-ins."""


@dataclass(frozen=True, kw_only=True)
class RunPlan(Sections):
    """One run, ready to start: what it is, what is recorded of it, and where it runs.

    The launcher writes a plan to ``spec.json`` by :meth:`spec`; a worker reads it back by :func:`plan_of_spec`.
    """

    run_id: str
    """The first hex digits of the hash of what defines the experiment, never of where it runs or logs."""
    name: str
    """A name for people; it need not be unique, and is no part of the identity."""
    experiment: Experiment
    cluster: Cluster
    trackers: tuple[Choice, ...]
    """The mirrors of its record; ``spec.json`` has them under ``tracker``."""
    log_every: int = field(metadata=between(1))
    """Steps between two rows of training metrics."""
    run_dir: Path
    overrides: tuple[str, ...] = ()
    """What the user wrote for this run."""
    sweep: str | None = None
    """The id of the sweep it belongs to."""
    point: str = ""
    """The settings that tell it from the other runs of its sweep, such as ``lr=0.1 topology=ring``."""
    snapshot: str | None = None
    """Folder that workers import the code from; None: where it is installed."""
    plugins: tuple[Plugin, ...] = ()
    """Users' own code that is loaded before any name is looked up."""
    identity: Identity = Identity.settings
    network: dict[str, Any] = field(default_factory=lambda: {"name": NOTHING})
    """The links that the virtual clock reckons with. Part of the identity of virtual workers only."""
    computation: dict[str, Any] = field(default_factory=lambda: {"name": NOTHING})
    """How long its workers compute. Likewise."""
    faults: tuple[str, ...] = ()
    """What goes wrong on purpose, as phrases of :mod:`sgp_core.faults`. No part of the identity."""
    calibration_s: float | None = None
    """Seconds in which workers measure the network and a step's computation; None: they train."""

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return self.experiment.world_size

    @property
    def processes(self) -> int:
        """Number of processes that train."""
        return self.cluster.processes

    @property
    def title(self) -> str:
        """What it is called among the runs of a command."""
        return self.point or self.name

    def spec(self) -> dict[str, Any]:
        """Return the content of ``spec.json``, less provenance."""
        fields = {entry.name: _plain(getattr(self, entry.name)) for entry in dataclasses.fields(self)}
        fields["tracker"] = spec_of_trackers(self.trackers)
        del fields["trackers"]
        if self.calibration_s is None:
            del fields["calibration_s"]
        return {"schema_version": SCHEMA_VERSION, **fields, "metrics": _scores(self)}


def plan_of_spec(spec: Mapping[str, Any]) -> RunPlan:
    """Return the plan that ``spec.json`` records. What version 0.1 did not record yet has its default.

    Raises:
        ConfigurationError: the spec is damaged or of another version, or a setting in it is unknown or out of range.
    """
    if spec.get("schema_version") != SCHEMA_VERSION:
        raise ConfigurationError(f"its spec.json is of version {spec.get('schema_version')}, not {SCHEMA_VERSION}")
    try:
        sections = {name: cls.from_dict(spec[name]) for name, cls in SECTIONS.items() if name in spec}
        cluster = choice_of_spec("cluster", spec["cluster"])
        assert isinstance(cluster, Cluster)
        typed: dict[str, Any] = {
            **sections,
            "experiment": Experiment.from_dict(with_former_order(spec["experiment"])),
            "cluster": cluster,
            "trackers": tuple(choice_of_spec("tracker", one) for one in trackers_in_spec(spec)),
            "run_dir": Path(spec["run_dir"]),
            "overrides": tuple(spec["overrides"]),
            "faults": tuple(spec.get("faults", ())),
            "plugins": tuple(map(Plugin.from_dict, spec.get("plugins", ()))),
            "identity": Identity(spec.get("identity", Identity.settings)),
        }
        plain = {entry.name: spec[entry.name] for entry in dataclasses.fields(RunPlan) if entry.name in spec}
        plan = RunPlan(**{**plain, **typed})
        _check_bounds(plan)
        return plan
    except ConfigurationError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"its spec.json is damaged: {error}") from error


def _check_bounds(options: Any, prefix: str = "") -> None:
    """Refuse numbers out of their bounds, also in the sections of a plan."""
    for entry in dataclasses.fields(options):
        value = getattr(options, entry.name)
        if dataclasses.is_dataclass(value):
            _check_bounds(value, "" if entry.name == "experiment" else f"{prefix}{entry.name}.")
        else:
            check_numbers(f"{prefix}{entry.name}", value, entry.metadata)


def _scores(plan: RunPlan) -> dict[str, Any]:
    """Return what evaluations measure, so that commands show it where the task is not installed."""
    score, metrics = score_facts(plan.experiment.dataset, plan.evaluation.metrics)
    return {"score": score, "scores": [metric.to_dict() for metric in metrics]}


def clock_of(cluster: Cluster, network: Mapping[str, Any], computation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the clock of virtual workers, which decides on the times in their rows, and in which order asynchronous
    ones take turns; empty where workers are real, or there is none."""
    if not cluster.virtual:
        return {}
    clock = {"network": network, "computation": computation}
    return {
        group: {option: value for option, value in chosen.items() if option != "path"}
        for group, chosen in clock.items()
        if chosen["name"] != NOTHING
    }


def run_id_of(
    experiment: Experiment, plugins: Sequence[Plugin], identity: Identity, clock: Mapping[str, Any] | None = None
) -> str:
    """Return the first hex digits of the hash of what defines a run.

    Args:
        clock: what :func:`clock_of` has returned.

    Raises:
        ConfigurationError: the experiment has an unknown name or option.
    """
    fingerprint = experiment.fingerprint()
    if clock:
        canonical = json.dumps(clock, sort_keys=True, separators=(",", ":"))
        fingerprint = hashlib.sha256(f"{fingerprint}\n{canonical}".encode()).hexdigest()
    if identity is Identity.code:
        sources = sorted(plugin.sha256 for plugin in plugins)
        fingerprint = hashlib.sha256("\n".join([fingerprint, *sources]).encode()).hexdigest()
    return fingerprint[:RUN_ID_DIGITS]


def _plain(value: Any) -> Any:
    if isinstance(value, Settings | Plugin):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
