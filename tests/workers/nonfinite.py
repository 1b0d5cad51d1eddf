"""What real workers do in test_nonfinite.py: one of them has a gradient that is not finite, and all skip the step."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import sgp_core

STEPS, BAD_STEP, BAD_RANK = 6, 3, 2
"""Steps are counted from 1."""

CASES: dict[str, dict[str, Any]] = {
    "sgp": {"algorithm": "sgp"},
    "awc": {"algorithm": sgp_core.build_algorithm("osgp")},
    "dpsgd": {"algorithm": "dpsgd"},
    "allreduce": {"algorithm": "allreduce", "topology": "complete"},
    "gradient_tracking": {"algorithm": "gradient_tracking"},
    "local_sgd": {"algorithm": "local_sgd"},
    "nodes": {"algorithm": "sgp", "node_size": 2},
    "shards": {"algorithm": "sgp", "node_size": 2, "shard_optimizer": True},
    "int8": {"algorithm": "sgp", "compression": "int8"},
}


def train(case: dict[str, Any]) -> dict[str, Any]:
    """Return what changed in the bad step, and how the run ended."""
    torch.manual_seed(0)
    rank = dist.get_rank()
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    gossip = sgp_core.Gossip(model, optimizer, nonfinite="skip", **{"topology": "ring", **case})
    seen: list[float] = []
    for step in range(1, STEPS + 1):
        inputs = torch.full((2, 4), 0.1 * (1 + rank + step))
        before = mean(gossip, model)
        loss = model(inputs).square().mean()
        if (step, rank) == (BAD_STEP, BAD_RANK):
            loss = loss * float("nan")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float((mean(gossip, model) - before).abs().max()))
    gossip.finish()
    with gossip.averaged():
        finite = all(bool(each.isfinite().all()) for each in model.parameters())
    gossip.close()
    return {"moved": seen, "skipped": gossip.skipped_steps, "finite": finite, "step": gossip.step}


def mean(gossip: sgp_core.Gossip, model: nn.Module) -> torch.Tensor:
    """Return the average model, which gossip alone does not change."""
    gossip.finish()
    with gossip.averaged():
        return torch.cat([each.detach().reshape(-1).double() for each in model.parameters()])


def everything() -> dict[str, Any]:
    return {name: train(case) for name, case in CASES.items()}
