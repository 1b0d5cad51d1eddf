"""How many workers run on this machine at a time, and which GPUs they get."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from launcher.config.clusters import Cluster, Device


@dataclass(frozen=True)
class Lease:
    """The cores or GPUs that a run holds while it runs."""

    cores: int = 0
    gpus: tuple[str, ...] = ()


class WorkerSlots:
    """Leases cores and GPUs, one for each worker.

    A run with more workers than there are cores gets all cores, and so runs alone.
    """

    def __init__(self, cores: int | None = None, gpus: list[str] | None = None) -> None:
        self._all_cores = cores or _cores()
        self._all_gpus = visible_gpus() if gpus is None else gpus
        self._cores, self._gpus = self._all_cores, list(self._all_gpus)

    def lease(self, cluster: Cluster, workers: int) -> Lease | None:
        """Return a lease for so many worker processes, None if they have to wait. One of virtual workers takes as many
        cores as it has threads."""
        if self.uses_gpus(cluster, workers):
            if len(self._gpus) < workers:
                return None
            taken, self._gpus = self._gpus[:workers], self._gpus[workers:]
            return Lease(gpus=tuple(taken))
        wanted = (cluster.threads_per_worker or self._all_cores) if cluster.virtual else workers
        needed = min(wanted, self._all_cores)
        if self._cores < needed:
            return None
        self._cores -= needed
        return Lease(cores=needed)

    def give_back(self, lease: Lease) -> None:
        """End a lease."""
        self._cores += lease.cores
        self._gpus += lease.gpus

    def uses_gpus(self, cluster: Cluster, workers: int) -> bool:
        """Whether workers will compute on GPUs: there is one for each, and ``cluster.device`` allows it."""
        return cluster.device != Device.cpu and 0 < workers <= len(self._all_gpus)


def visible_gpus() -> list[str]:
    """Return the GPUs that the user made visible, by number or UUID (not tried on hardware)."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip() and gpu.strip() != "-1"]
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
