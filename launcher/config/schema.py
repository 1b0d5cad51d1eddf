"""What users can set: the launcher's own options, and where the options of every group are defined.

A new group of settings is one line here: in :class:`Sections` for a section of fixed options, in :data:`CHOICES` for
a choice between several.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from launcher.config.choice import Choice, NoOptions, option_fields
from launcher.config.clusters import InlineCluster, LocalCluster, SimulatorCluster, SlurmCluster
from launcher.config.trackers import MlflowOptions, TensorBoardOptions, WandbOptions
from sgp_core.bounds import between
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.metrics import Direction
from sgp_core.training.config import (
    GROUPS,
    NOTHING,
    OPTIONAL,
    CheckpointConfig,
    EvaluationConfig,
    LoaderConfig,
    TrainingConfig,
    registry,
)
from sgp_core.training.groups import CLOCK_GROUPS
from sgp_core.training.settings import Settings

CONFIG_MODULE = "launcher.conf"
"""Package of the YAML files that Hydra composes."""

LIBRARY_GROUPS = (*GROUPS, *CLOCK_GROUPS)
"""Groups whose choices are registered in the library; most of them make an experiment."""


_MAY_BE_NOTHING = (*OPTIONAL, *CLOCK_GROUPS)


class FailHow(StrEnum):
    """How ``debug.fail_rank`` fails."""

    exception = "raise"
    kill = "kill"


@dataclass(frozen=True)
class SearchOptions(Choice):
    """A search tries some values of the settings, not every combination."""

    trials: int = field(default=20, metadata=between(1))
    parallel: int = field(default=4, metadata=between(1))
    metric: str | None = None
    """What the best evaluation of a run is judged by; None: the score of the task."""
    direction: Direction | None = None
    """Which of its values are good ones; None: as the metric says."""
    seed: int = field(default=0, metadata=between(0, 2**32 - 1))


@dataclass(frozen=True)
class RandomSearch(SearchOptions):
    """Random search: the values of every run are drawn independently."""

    name: ClassVar[str] = "random"


@dataclass(frozen=True)
class TpeSearch(SearchOptions):
    """Tree-structured Parzen estimator: values are drawn near those of the best runs so far."""

    name: ClassVar[str] = "tpe"


class GossipUnit(StrEnum):
    """What one node of the topology stands for."""

    worker = "worker"
    node = "node"
    """All workers of a node: they average their gradients, and each exchanges its shard of the model."""


@dataclass(frozen=True)
class AlgorithmOptions:
    """Options that every algorithm has beside its own."""

    unit: GossipUnit = GossipUnit.worker


@dataclass(frozen=True)
class DebugOptions(Settings):
    """Aids for finding mistakes. They are never part of a run's identity."""

    anomaly: bool = False
    fail_rank: int | None = None
    fail_step: int = field(default=1, metadata=between(1))
    fail_how: FailHow = FailHow.exception
    timeline_steps: int = field(default=0, metadata=between(0))


@dataclass(frozen=True, kw_only=True)
class Sections:
    """The sections of a run's settings that are no part of its experiment: one line each."""

    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    debug: DebugOptions = field(default_factory=DebugOptions)


SECTIONS: dict[str, type[Settings]] = {"training": TrainingConfig, **typing.get_type_hints(Sections)}
"""The dataclass of every section; ``training`` is part of the experiment."""


def _by_name(*choices: type[Choice]) -> dict[str, type[Choice]]:
    return {choice.name: choice for choice in choices}


CHOICES: dict[str, dict[str, type[Choice]]] = {
    "cluster": _by_name(InlineCluster, LocalCluster, SimulatorCluster, SlurmCluster),
    "tracker": _by_name(WandbOptions, TensorBoardOptions, MlflowOptions, NoOptions),
    "search": _by_name(NoOptions, RandomSearch, TpeSearch),
}
"""Groups whose choices are the launcher's own."""


SEVERAL = ("tracker",)
"""Groups in which a list of choices may be made."""


LISTS = {"callbacks": "callback", "evaluation.metrics": "metric"}
"""Settings that are lists of choices, with what is chosen."""


def choices(group: str) -> list[str]:
    """Return the names that can be chosen in ``group``."""
    if group in CHOICES:
        return sorted(CHOICES[group])
    return sorted([*registry(group).names(), *([NOTHING] if group in _MAY_BE_NOTHING else [])])


def options_class(group: str, name: str) -> type[Any]:
    """Return the dataclass whose fields are the options of ``name`` in ``group``.

    Raises:
        ConfigurationError: no such name; the message suggests the nearest.
    """
    if name not in choices(group):
        raise ConfigurationError(f"unknown {group} '{name}'{did_you_mean(name, choices(group))}")
    if group in CHOICES:
        return CHOICES[group][name]
    return NoOptions if group in _MAY_BE_NOTHING and name == NOTHING else registry(group).get(name)


def choice_of_spec(group: str, values: Mapping[str, Any]) -> Choice:
    """Return one of the launcher's own choices from the plain data of :meth:`Choice.to_dict`.

    Raises:
        ConfigurationError: an unknown name or option.
        KeyError: there is no name.
    """
    cls: type[Choice] = options_class(group, values["name"])
    options = {key: value for key, value in values.items() if key != "name"}
    known = option_fields(cls)
    for option in options:
        if option not in known:
            raise ConfigurationError(f"{group} has no option '{option}'{did_you_mean(option, known)}")
    return cls.from_dict(options)
