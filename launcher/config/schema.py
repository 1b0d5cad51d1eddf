"""What may be configured: the launcher's own options, and where the options of every group are defined."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sgp_core.training.config import NOTHING, OPTIONAL, registry

LIBRARY_GROUPS = (
    *("model", "dataset", "partition", "topology", "algorithm", "outer", "pace", "compression", "optimizer"),
    "schedule",
)
"""Groups whose choices are registered in the library; together they are most of an experiment."""


class Device(StrEnum):
    """Where a worker computes."""

    auto = "auto"
    """A GPU for each worker where there are enough, else the CPU."""
    cpu = "cpu"
    cuda = "cuda"


class TransportName(StrEnum):
    """How models travel between workers."""

    auto = "auto"
    """Memory that workers share where they compute on the CPUs or GPUs of one host, else messages."""
    p2p = "p2p"
    shared_memory = "shared_memory"
    """Between the CPUs of one host."""
    symmetric_memory = "symmetric_memory"
    """Between GPUs of one host that map each other's memory."""
    mixed = "mixed"
    """Shared memory inside each of several nodes, messages between them."""


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
class InlineCluster:
    """One worker inside the launching process."""

    nodes: int = 1
    workers_per_node: int = 1
    threads_per_worker: int | None = None
    device: Device = Device.auto


@dataclass(frozen=True)
class LocalCluster:
    """Worker processes on this machine."""

    nodes: int = 1
    workers_per_node: int = 4
    threads_per_worker: int | None = None
    device: Device = Device.auto
    transport: TransportName = TransportName.auto
    step_in_backward: bool = False
    timeout_min: int | None = None
    process_group_timeout_s: int = 600
    slots: int | None = None


@dataclass(frozen=True)
class SlurmCluster:
    """Worker processes on a SLURM cluster: a job of nodes x workers_per_node tasks."""

    nodes: int = 1
    workers_per_node: int = 4
    threads_per_worker: int | None = None
    device: Device = Device.auto
    transport: TransportName = TransportName.auto
    step_in_backward: bool = False
    gpus_per_node: int | None = None
    cpus_per_worker: int | None = None
    memory_gb: float | None = None
    timeout_min: int = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    mail_user: str | None = None
    mail_type: str | None = None
    array_parallelism: int = 256
    signal_delay_s: int = 120
    network: str | None = None
    process_group_timeout_s: int = 600
    python: str | None = None
    setup: list[str] = field(default_factory=list)
    srun_args: list[str] = field(default_factory=list)
    additional_parameters: dict[str, Any] | None = None
    wait: bool = False


@dataclass(frozen=True)
class WandbOptions:
    """Mirror metrics to Weights & Biases."""

    mode: WandbMode | None = None
    project: str = "stochastic-gradient-push"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    per_rank: bool = False
    artifact: bool = False


class SearchDirection(StrEnum):
    """What is better."""

    maximize = "maximize"
    minimize = "minimize"


@dataclass(frozen=True)
class SearchOptions:
    """Trying values out instead of every combination."""

    trials: int = 20
    parallel: int = 4
    metric: str = "accuracy"
    direction: SearchDirection = SearchDirection.maximize
    seed: int = 0


@dataclass(frozen=True)
class NoOptions:
    """A choice without options."""


class GossipUnit(StrEnum):
    """Who gossips."""

    worker = "worker"
    node = "node"
    """The workers of a node average their gradients and act as one; each exchanges its share of the model."""


@dataclass(frozen=True)
class AlgorithmOptions:
    """What holds for every algorithm, beside options of its own."""

    unit: GossipUnit = GossipUnit.worker


@dataclass(frozen=True)
class DebugOptions:
    """Aids for finding mistakes; never part of a run's identity."""

    anomaly: bool = False
    fail_rank: int | None = None
    fail_step: int = 1
    fail_how: FailHow = FailHow.exception
    timeline_steps: int = 0


CHOICES: dict[str, dict[str, type[Any]]] = {
    "cluster": {"inline": InlineCluster, "local": LocalCluster, "slurm": SlurmCluster},
    "tracker": {"wandb": WandbOptions, "none": NoOptions},
    "search": {"none": NoOptions, "random": SearchOptions, "tpe": SearchOptions},
}
"""Groups whose choices are the launcher's own."""


def choices(group: str) -> list[str]:
    """Return the names that can be chosen in ``group``."""
    if group in CHOICES:
        return sorted(CHOICES[group])
    return sorted([*registry(group).names(), *([NOTHING] if group in OPTIONAL else [])])


def options_class(group: str, name: str) -> type[Any]:
    """Return the dataclass whose fields are the options of ``name`` in ``group``."""
    if group in CHOICES:
        return CHOICES[group][name]
    return NoOptions if group in OPTIONAL and name == NOTHING else registry(group).get(name)


CONFIG_MODULE = "launcher.conf"
