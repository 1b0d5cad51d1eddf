"""In a worker: who may be a step ahead of whom, without a clock."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist

import sgp_core
from tests.support.waiting import PATIENCE_S


def compute_while_others_end(late: int = 2, steps: int = 4) -> int:
    """Worker 0 computes step ``late`` until all others have ended theirs; these end the next one only after it has.

    Returns:
        The steps taken.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    store = dist.distributed_c10d._get_default_store()
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = sgp_core.build_topology("directed_ring", world_size=size)
    gossip = sgp_core.Gossip(
        model, optimizer, algorithm=sgp_core.build_algorithm("osgp"), topology=topology, transport="p2p"
    )
    for step in range(steps):
        model(torch.ones(1, 2)).sum().backward()
        if rank == 0 and step == late:
            store.wait([f"{other} ended {late}" for other in range(1, size)], timedelta(seconds=PATIENCE_S))
        store.set(f"{rank} computed {step}", "")
        optimizer.step()
        if rank and step == late + 1:
            assert store.check([f"0 computed {late}"]), "a peer that it exchanges with has not come so far"
        store.set(f"{rank} ended {step}", "")
    taken = gossip.step
    gossip.close()
    return taken
