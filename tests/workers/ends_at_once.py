"""A script for torchrun: rank 0 alone enters ``averaged()``, and each process ends with the error that it gets."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

import sgp_core

if __name__ == "__main__":
    dist.init_process_group("gloo")
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm="sgp", topology="ring", transport="p2p", patience_s=1)
    try:
        for step in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            if step == 1 and gossip.rank == 0:
                with gossip.averaged():
                    pass
    except RuntimeError as error:
        print(f"{type(error).__name__} of rank {gossip.rank}: {error}", flush=True)
    os._exit(0)
