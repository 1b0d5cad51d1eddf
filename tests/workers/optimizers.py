"""What real workers do in test_optimizers.py."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import sgp_core
from tests.workers.agreement import batch, flatten, make_algorithm, make_model


def several_beside_one() -> dict[str, Any]:
    """Train with one optimizer of two groups, and with two optimizers, on a graph whose weights leave 1."""
    results = []
    for several in (False, True):
        model = make_model()
        groups = [list(model[0].parameters()), list(model[2].parameters())]
        options: dict[str, Any] = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.01}  # read, so z has to stay in place
        optimizers = (
            [torch.optim.SGD(group, **options) for group in groups]
            if several
            else [torch.optim.SGD([{"params": group} for group in groups], **options)]
        )
        gossip = sgp_core.Gossip(
            model,
            optimizers if several else optimizers[0],
            algorithm=make_algorithm("osgp", "slowmo"),
            topology=sgp_core.build_topology("complete", world_size=2),
        )
        for step in range(8):
            inputs, targets = batch(dist.get_rank(), step)
            nn.functional.cross_entropy(model(inputs), targets).backward()
            for optimizer in optimizers:
                optimizer.step()
            for optimizer in optimizers:
                optimizer.zero_grad()
            if several and step == 3:  # tau is 4: the outer has reset the momenta of both
                reset = all(
                    not optimizer.state[p]["momentum_buffer"].any() for optimizer in optimizers for p in optimizer.state
                )
        results.append((flatten(model), gossip.push_sum_weight, gossip.step))
        gossip.finish()
        gossip.close()
    (ours, ours_weight, _), (theirs, weight, steps) = results
    return {
        "same": float((ours - theirs).abs().max()),
        "weight": abs(ours_weight - weight),
        "steps": steps,
        "reset": reset,
    }
