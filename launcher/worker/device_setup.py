"""What a worker computes and communicates with: threads, a device, a process group."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.config.clusters import Cluster, Device, SlurmCluster
from launcher.system import network_interface
from launcher.worker import rendezvous
from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

    from launcher.config.run_plan import RunPlan


@dataclass(frozen=True)
class Place:
    """The ranks of a worker, among all workers and on its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


def prepare(plan: RunPlan, place: Place, folder: Path, visible_gpus: str | None, *, separate: bool) -> torch.device:
    """Set the number of threads, join the process group unless the run is elastic, and return this worker's device.

    Args:
        folder: folder of this attempt, in which the workers find each other.
        visible_gpus: the user's ``CUDA_VISIBLE_DEVICES``, None if it was not set.
        separate: whether this process exists for the worker alone.

    Raises:
        ConfigurationError: there are fewer GPUs than needed, or SLURM has not dealt out ranks node by node.
    """
    cluster = plan.cluster
    slurm = isinstance(cluster, SlurmCluster)
    _check_order(plan, place)
    threads = cluster.threads_per_worker or _cores(place, slurm)
    if separate:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if not slurm:  # submitit has replaced the value that the user or the queue chose
            _restore("CUDA_VISIBLE_DEVICES", visible_gpus)
    import torch

    torch.set_num_threads(threads)
    torch.autograd.set_detect_anomaly(plan.debug.anomaly)
    device = _device(cluster.device, place, slurm)
    if place.world_size > 1 and not cluster.elastic:
        _join(cluster, place, folder, device)
    return device


def _check_order(plan: RunPlan, place: Place) -> None:
    """Refuse ranks that SLURM has dealt out to the nodes in turn if a node is to gossip as one."""
    in_order = place.local_rank == place.rank % place.local_world_size
    if isinstance(plan.cluster, SlurmCluster) and plan.experiment.node_size > 1 and not in_order:
        raise ConfigurationError(
            "algorithm.unit=node needs consecutive ranks on each node, and SLURM has dealt them out in turn: use"
            " cluster.srun_args=[--distribution=block]"
        )


def _cores(place: Place, slurm: bool) -> int:
    """Return the number of cores of this worker."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // place.local_world_size)
    if not slurm:
        return share
    given = os.environ.get("SLURM_CPUS_PER_TASK")
    on_node = int(os.environ.get("SLURM_CPUS_ON_NODE", cores))
    return min(cores, int(given)) if given else max(1, min(cores, on_node) // place.local_world_size)


def _device(wanted: Device, place: Place, slurm: bool) -> torch.device:
    """Return the device to compute on. SLURM's way of binding GPUs has not been tried on hardware."""
    import torch

    count, needed = torch.cuda.device_count(), place.local_world_size
    bound = slurm and count == 1  # SLURM may bind each task to one GPU, which is then the only one it sees
    if wanted == Device.cuda and count < needed and not bound:
        raise ConfigurationError(
            f"cluster.device=cuda needs a GPU for each of {needed} workers on a machine, but {count} are visible"
        )
    if wanted == Device.cpu or (count < needed and not bound):
        return torch.device("cpu")
    index = 0 if bound else place.local_rank
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _join(cluster: Cluster, place: Place, folder: Path, device: torch.device) -> None:
    """Initialise torch.distributed through a store of this attempt."""
    from datetime import timedelta

    import torch.distributed as dist

    rank, world_size = place.rank, place.world_size
    timeout = timedelta(seconds=cluster.process_group_timeout_s)
    if isinstance(cluster, SlurmCluster):
        network_interface.use_interface(cluster.network)
        interface = network_interface.choose_interface(cluster.network)
        store = rendezvous.store_across_machines(folder, rank, world_size, interface, timeout)
    else:
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: no port is open to the network
        store = rendezvous.store_on_one_machine(folder, world_size)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
