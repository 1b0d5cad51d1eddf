"""Checks of where and how a run is to run. They create nothing and do not import torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.config.clusters import Cluster, Device, InlineCluster, SimulatorCluster, SlurmCluster
from launcher.config.trackers import check_installed
from sgp_core.errors import ConfigurationError
from sgp_core.faults import parse_faults
from sgp_core.transports.registry import AUTO, HostCount, find_transport, transports_by_priority

if TYPE_CHECKING:
    from launcher.config.run_plan import RunPlan

_LONGEST_NAME = 100


def world_size(cluster: Cluster) -> int:
    """Return the number of workers: nodes x workers per node.

    Raises:
        ConfigurationError: there are more than this kind of cluster can have.
    """
    if cluster.world_size > cluster.most_workers:
        where = " on one machine" if not isinstance(cluster, SlurmCluster) and not cluster.virtual else ""
        settings = f"cluster.nodes={cluster.nodes} cluster.workers_per_node={cluster.workers_per_node}"
        if isinstance(cluster, SimulatorCluster) and cluster.workers is not None:
            settings = f"cluster.workers={cluster.workers}"
        raise ConfigurationError(
            f"{settings}: {cluster.world_size} workers are too many: at most {cluster.most_workers}{where}"
        )
    return cluster.world_size


def check(plan: RunPlan) -> None:
    """Refuse a plan whose settings are each valid but do not go together.

    Raises:
        ConfigurationError: with the setting, its value and what would be right.
    """
    _check_name(plan.name)
    _check_cluster(plan)
    _check_debug(plan)
    if getattr(plan.cluster, "python", None) is None:  # else workers have packages of their own
        check_installed(plan.trackers)
    for fault in parse_faults(plan.faults):
        fault.check(plan.world_size)
    _check_folder(plan.run_dir)


def _check_name(name: str) -> None:
    """Refuse a name that tables could not show, or that ``sgp`` would take for a folder."""
    if not name.strip() or not name.isprintable() or "/" in name or len(name) > _LONGEST_NAME:
        raise ConfigurationError(
            f"name={name!r}: must be 1 to {_LONGEST_NAME} characters on one line, without '/', such as my-run"
        )


def _check_cluster(plan: RunPlan) -> None:
    cluster = plan.cluster
    if isinstance(cluster, InlineCluster) and plan.world_size != 1:
        raise ConfigurationError(f"cluster=inline is one worker, not {plan.world_size}; cluster=local runs several")
    watchdog_s = cluster.watchdog_s or 0
    if cluster.watchdog_first_s < watchdog_s:
        raise ConfigurationError(
            f"cluster.watchdog_first_s={cluster.watchdog_first_s}: must be at least cluster.watchdog_s={watchdog_s}"
        )
    _check_transport(plan)
    _check_elastic(plan)
    if isinstance(cluster, SlurmCluster):
        _check_slurm(cluster)
    elif cluster.device == Device.cuda and not _sees_gpu():
        raise ConfigurationError("cluster.device=cuda, but this machine shows no NVIDIA GPU; use cluster.device=cpu")


def _check_transport(plan: RunPlan) -> None:
    cluster = plan.cluster
    if cluster.transport == AUTO:
        return
    kind = find_transport(cluster.transport)
    hosts = cluster.nodes if isinstance(cluster, SlurmCluster) else 1
    devices = kind.devices if cluster.device == Device.auto else (cluster.device.value,)
    workers = cluster.workers_per_node
    node_groups = plan.experiment.node_size > 1 and plan.experiment.nodes > 1
    if kind.serves(devices, hosts, workers, node_groups=node_groups):
        return
    if not set(devices) & set(kind.devices):
        reason = f"is for cluster.device={' or '.join(kind.devices)}, not {cluster.device}"
    elif hosts > 1 and kind.hosts is HostCount.one:
        reason = f"is for one node, not {hosts}"
    elif hosts == 1 and kind.hosts is HostCount.several:
        reason = "is for several nodes of cluster=slurm"
    elif workers < kind.min_workers_per_host:
        reason = f"is for {kind.min_workers_per_host} or more workers on a node, not {workers}"
    else:
        reason = "is for algorithm.unit=worker, not node"
    others = [k.name for k in transports_by_priority() if k.serves(devices, hosts, workers, node_groups=node_groups)]
    raise ConfigurationError(f"cluster.transport={kind.name} {reason}; use {' or '.join(others)}")


def _check_elastic(plan: RunPlan) -> None:
    """Refuse what does not go with workers that come and go; the algorithm is checked with the experiment."""
    cluster = plan.cluster
    if not cluster.elastic:
        return
    why = ""
    if plan.experiment.node_size > 1:
        why = "its workers come and go one by one; use algorithm.unit=worker"
    elif plan.world_size == 1:
        why = "one worker has no others that could go on; use cluster.workers_per_node=2 or more"
    elif cluster.transport != AUTO:
        why = "it has connections of its own; use cluster.transport=auto"
    elif cluster.step_in_backward:
        why = "models are sent after a step; use cluster.step_in_backward=false"
    if why:
        raise ConfigurationError(f"cluster.elastic=true: {why}")


def _check_slurm(cluster: SlurmCluster) -> None:
    limit_s, delay_s = 60 * cluster.timeout_min, cluster.signal_delay_s
    if delay_s >= limit_s:
        raise ConfigurationError(
            f"cluster.signal_delay_s={delay_s}: must be less than cluster.timeout_min={cluster.timeout_min}"
        )
    gpus, workers = cluster.gpus_per_node, cluster.workers_per_node
    if cluster.device == Device.cuda and gpus is not None and gpus < workers:
        raise ConfigurationError(f"cluster.gpus_per_node={gpus}: device=cuda needs one for each of {workers} workers")


def _check_debug(plan: RunPlan) -> None:
    rank = plan.debug.fail_rank
    if plan.cluster.virtual:
        for setting, chosen in (
            ("faults", bool(plan.faults)),
            ("debug.fail_rank", bool(rank)),
            ("debug.timeline_steps", plan.debug.timeline_steps > 0),
        ):
            if chosen:
                raise ConfigurationError(
                    f"{setting}: with cluster=simulator all workers are one process; with cluster=local each is one"
                )
    if rank is not None and not 0 <= rank < plan.world_size:
        raise ConfigurationError(f"debug.fail_rank={rank}: ranks are 0 to {plan.world_size - 1}")


def _check_folder(run_dir: Path) -> None:
    for folder in (run_dir, *run_dir.parents):
        if folder.exists():
            if not folder.is_dir():
                raise ConfigurationError(f"runs_dir={run_dir.parent}: {folder} is a file, not a folder")
            if not os.access(folder, os.W_OK | os.X_OK):
                raise ConfigurationError(f"runs_dir={run_dir.parent}: {folder} cannot be written to")
            return


def _sees_gpu() -> bool:
    places = [*Path("/dev").glob("nvidia[0-9]*"), Path("/proc/driver/nvidia/version"), Path("/dev/dxg")]
    return any(place.exists() for place in places)
