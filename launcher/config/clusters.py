"""The choices of ``cluster``: where workers run, on which devices, and how models travel between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from launcher.config.choice import Choice
from sgp_core.bounds import between
from sgp_core.registry import NOT_AN_OPTION, VALUES
from sgp_core.transports.registry import AUTO, TRANSPORTS, canonical_transport_name

YEAR_S = 366 * 24 * 3600
"""No time limit is longer."""


class Device(StrEnum):
    """The device that a worker computes on."""

    auto = "auto"
    """A GPU for each worker if there are enough, else the CPU."""
    cpu = "cpu"
    cuda = "cuda"


@dataclass(frozen=True)
class Cluster(Choice):
    """Where workers run. A field that is no option of some kind of cluster has the same value for all of that kind."""

    most_workers: ClassVar[int] = 1024
    """On one machine."""
    virtual: ClassVar[bool] = False
    """Whether one process is all workers."""

    nodes: int = field(default=1, metadata=between(1))
    workers_per_node: int = field(default=4, metadata=between(1, 1024))
    threads_per_worker: int | None = field(default=None, metadata=between(1, 1024))
    device: Device = Device.auto
    transport: str = field(default=AUTO, metadata={VALUES: lambda: [AUTO, *TRANSPORTS.names()]})
    step_in_backward: bool = False
    elastic: bool = False
    elastic_patience_s: float = field(default=4.0, metadata=between(1, YEAR_S))
    timeout_min: int | None = field(default=None, metadata=between(1, YEAR_S // 60))
    process_group_timeout_s: int = field(default=600, metadata=between(1, YEAR_S))
    watchdog_s: int | None = field(default=60, metadata=between(5, YEAR_S))
    watchdog_first_s: int = field(default=600, metadata=between(1, YEAR_S))
    slots: int | None = field(default=None, metadata=NOT_AN_OPTION)

    def __post_init__(self) -> None:
        object.__setattr__(self, "transport", canonical_transport_name(self.transport))

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return self.nodes * self.workers_per_node

    @property
    def processes(self) -> int:
        """Number of processes that train."""
        return 1 if self.virtual else self.world_size


@dataclass(frozen=True)
class InlineCluster(Cluster):
    """One worker inside the launching process."""

    name: ClassVar[str] = "inline"
    workers_per_node: int = field(default=1, metadata=between(1))
    transport: str = field(default=AUTO, metadata=NOT_AN_OPTION)
    step_in_backward: bool = field(default=False, metadata=NOT_AN_OPTION)
    elastic: bool = field(default=False, metadata=NOT_AN_OPTION)
    elastic_patience_s: float = field(default=4.0, metadata=NOT_AN_OPTION)
    timeout_min: int | None = field(default=None, metadata=NOT_AN_OPTION)
    process_group_timeout_s: int = field(default=600, metadata=NOT_AN_OPTION)
    watchdog_s: int | None = field(default=None, metadata=NOT_AN_OPTION)
    watchdog_first_s: int = field(default=600, metadata=NOT_AN_OPTION)


@dataclass(frozen=True)
class LocalCluster(Cluster):
    """Worker processes on this machine."""

    name: ClassVar[str] = "local"
    slots: int | None = field(default=None, metadata=between(1))


@dataclass(frozen=True)
class SimulatorCluster(Cluster):
    """Virtual workers, all of them in one process on this machine."""

    name: ClassVar[str] = "simulator"
    most_workers: ClassVar[int] = 65_536
    virtual: ClassVar[bool] = True
    workers: int | None = field(default=None, metadata=between(1))
    nodes: int = field(default=1, metadata=between(1))
    workers_per_node: int = field(default=4, metadata=between(1, 65_536))
    device: Device = Device.cpu
    transport: str = field(default=AUTO, metadata=NOT_AN_OPTION)
    step_in_backward: bool = field(default=False, metadata=NOT_AN_OPTION)
    elastic: bool = field(default=False, metadata=NOT_AN_OPTION)
    elastic_patience_s: float = field(default=4.0, metadata=NOT_AN_OPTION)
    process_group_timeout_s: int = field(default=600, metadata=NOT_AN_OPTION)
    watchdog_s: int | None = field(default=None, metadata=NOT_AN_OPTION)
    watchdog_first_s: int = field(default=600, metadata=NOT_AN_OPTION)
    slots: int | None = field(default=None, metadata=between(1))

    @property
    def world_size(self) -> int:
        """Number of virtual workers."""
        return super().world_size if self.workers is None else self.workers


@dataclass(frozen=True)
class SlurmCluster(Cluster):
    """Worker processes on a SLURM cluster: a job of nodes x workers_per_node tasks."""

    name: ClassVar[str] = "slurm"
    most_workers: ClassVar[int] = 65_536
    gpus_per_node: int | None = field(default=None, metadata=between(0))
    cpus_per_worker: int | None = field(default=None, metadata=between(1))
    memory_gb: float | None = field(default=None, metadata=between(1, 2**32))
    timeout_min: int = field(default=60, metadata=between(1, YEAR_S // 60))
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    mail_user: str | None = None
    mail_type: str | None = None
    array_parallelism: int = field(default=256, metadata=between(1))
    signal_delay_s: int = field(default=120, metadata=between(1))
    network: str | None = None
    python: str | None = None
    setup: list[str] = field(default_factory=list)
    srun_args: list[str] = field(default_factory=list)
    additional_parameters: dict[str, Any] | None = None
    starts_without_checkpoint: int = field(default=3, metadata=between(1))
    wait: bool = False
