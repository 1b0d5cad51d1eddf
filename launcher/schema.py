"""What may be configured: the launcher's own options, and where the options of every group are defined."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sgp_core.registry import Registry

REGISTRIES = {
    "model": "sgp_core.tasks.models:MODELS",
    "dataset": "sgp_core.tasks.datasets:DATASETS",
    "topology": "sgp_core.topology:TOPOLOGIES",
    "algorithm": "sgp_core.algorithms:ALGORITHMS",
    "outer": "sgp_core.algorithms:OUTERS",
    "optimizer": "sgp_core.training.optimizers:OPTIMIZERS",
    "schedule": "sgp_core.training.schedules:SCHEDULES",
}
"""Groups whose choices are registered in the library."""

NO_OUTER = "none"


class Device(StrEnum):
    """Where a worker computes."""

    auto = "auto"
    """A GPU for each worker where there are enough, else the CPU."""
    cpu = "cpu"
    cuda = "cuda"


class WandbMode(StrEnum):
    """Modes of Weights & Biases."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


class FailHow(StrEnum):
    """How a worker fails on purpose."""

    exception = "raise"
    kill = "kill"


@dataclass(frozen=True)
class Inline:
    """One worker inside the launching process."""

    nodes: int = 1
    workers_per_node: int = 1
    threads_per_worker: int | None = None
    device: Device = Device.auto


@dataclass(frozen=True)
class Local:
    """Worker processes on this machine."""

    nodes: int = 1
    workers_per_node: int = 4
    threads_per_worker: int | None = None
    device: Device = Device.auto
    timeout_min: int | None = None
    process_group_timeout_s: int = 600


@dataclass(frozen=True)
class Wandb:
    """Mirror metrics to Weights & Biases."""

    mode: WandbMode | None = None
    project: str = "stochastic-gradient-push"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Nothing:
    """A choice without options."""


@dataclass(frozen=True)
class Debug:
    """Aids for finding mistakes; never part of a run's identity."""

    anomaly: bool = False
    fail_rank: int | None = None
    fail_step: int = 1
    fail_how: FailHow = FailHow.exception


CHOICES: dict[str, dict[str, type[Any]]] = {
    "cluster": {"inline": Inline, "local": Local},
    "tracker": {"wandb": Wandb, "none": Nothing},
}
"""Groups whose choices are the launcher's own."""


def registry(group: str) -> Registry[Any]:
    """Return the library's registry behind ``group`` (imports neither torch nor data)."""
    module, name = REGISTRIES[group].split(":")
    found: Registry[Any] = getattr(importlib.import_module(module), name)
    return found


def choices(group: str) -> list[str]:
    """Return the names that can be chosen in ``group``."""
    if group in CHOICES:
        return sorted(CHOICES[group])
    return sorted([*registry(group).names(), *([NO_OUTER] if group == "outer" else [])])


def options_class(group: str, name: str) -> type[Any]:
    """Return the dataclass whose fields are the options of ``name`` in ``group``."""
    if group in CHOICES:
        return CHOICES[group][name]
    return Nothing if (group, name) == ("outer", NO_OUTER) else registry(group).get(name)
