"""The groups of choices, and the registry of each. Imports without torch."""

from __future__ import annotations

import importlib
from typing import Any

from sgp_core.registry import Registry

NOTHING = "none"
OPTIONAL = ("outer", "compression", "loss")
"""Groups in which :data:`NOTHING` may be chosen."""
CLOCK_GROUPS = ("network", "computation")
"""Groups of what the virtual clock runs on, in which :data:`NOTHING` may be chosen, too: no part of an experiment."""

_REGISTRIES = {
    "model": "sgp_core.tasks.models:MODELS",
    "dataset": "sgp_core.tasks.datasets:DATASETS",
    "partition": "sgp_core.tasks.partitions:PARTITIONS",
    "topology": "sgp_core.topology.base:TOPOLOGIES",
    "algorithm": "sgp_core.algorithms.base:ALGORITHMS",
    "outer": "sgp_core.algorithms.base:OUTERS",
    "pace": "sgp_core.pacing.base:PACES",
    "compression": "sgp_core.compression:COMPRESSIONS",
    "optimizer": "sgp_core.training.optimizers:OPTIMIZERS",
    "schedule": "sgp_core.training.schedules:SCHEDULES",
    "loss": "sgp_core.tasks.losses:LOSSES",
}

GROUPS = tuple(_REGISTRIES)
"""Fields of :class:`Experiment` that are one choice each."""
_REGISTRIES |= {
    "task": "sgp_core.tasks.kinds:TASKS",
    "metric": "sgp_core.tasks.evaluation_metrics:METRICS",
    "callback": "sgp_core.training.callbacks:CALLBACKS",
    "network": "sgp_core.clock.network:NETWORKS",
    "computation": "sgp_core.clock.computation:COMPUTATIONS",
}


def registry(group: str) -> Registry[Any]:
    """Return the registry of one kind of part, such as ``registry("topology")`` or ``registry("callback")``."""
    module, _, name = _REGISTRIES[group].partition(":")
    found: Registry[Any] = getattr(importlib.import_module(module), name)
    return found
