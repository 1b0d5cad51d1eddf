"""One replica under torchft, run by a Python that has it: ``python -m suite.torchft_worker FOLDER``.

The model, data, batches and optimizer are those of an ``sgp-train`` run, whose ``spec.json`` is in FOLDER. After each
committed step a line ``[time, step]`` goes to ``pulse-RANK-PROCESS.jsonl``, and ``[time, batches]`` to
``batches-RANK-PROCESS.jsonl``: batches of all replicas that are in the model.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from launcher.config.run_plan import plan_of_spec
from sgp_core.tasks.sharding import build_sampler
from sgp_core.training.experiment import build_parts


def main(folder: Path, rank: int, lighthouse: str, patience_s: float) -> None:
    """Train until this process is killed."""
    from torchft import DistributedDataParallel, Manager, Optimizer, ProcessGroupGloo

    spec = json.loads((folder / "spec.json").read_text())
    experiment = plan_of_spec(spec).experiment
    parts = build_parts(experiment)
    torch.set_num_threads(1)
    task = parts.dataset.load()
    batch_size = experiment.training.batch_size
    sampler = build_sampler(task, parts.partition, experiment.world_size, rank, batch_size, experiment.seed)
    torch.manual_seed(experiment.seed)
    model = task.build(parts.model)
    optimizer = parts.optimizer.build(model)

    def load(state: dict[str, Any]) -> None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    patience = timedelta(seconds=patience_s)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=patience),
        load_state_dict=load,
        state_dict=lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()},
        min_replica_size=1,
        timeout=patience,
        quorum_timeout=timedelta(seconds=60),
        replica_id=f"replica_{rank}",
        store_addr="localhost",
        store_port=store.port,
        rank=0,
        world_size=1,
        lighthouse_addr=lighthouse,
        hostname=socket.gethostname(),
    )
    replica, stepper = DistributedDataParallel(manager, model), Optimizer(manager, optimizer)
    name, epoch = f"{rank}-{os.getpid()}.jsonl", 0
    with (
        open(folder / f"pulse-{name}", "a", buffering=1) as pulse,
        open(folder / f"batches-{name}", "a", buffering=1) as batches,
    ):
        while True:
            for indices in sampler.indices(epoch):
                batch = task.batch(indices, torch.Generator().manual_seed(epoch * 1_000_003 + rank))
                stepper.zero_grad()
                task.loss(replica(*batch.inputs), batch.targets, 0.0).backward()
                before = manager.current_step()
                stepper.step()
                if manager.current_step() > before:
                    now = time.time()
                    pulse.write(f"[{now:.6f}, {manager.current_step()}]\n")
                    batches.write(f"[{now:.6f}, {manager.batches_committed()}]\n")
            epoch += 1


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
