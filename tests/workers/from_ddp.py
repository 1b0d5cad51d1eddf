"""What real workers do in test_from_ddp.py."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import sgp_core
from tests.docs.pages import ROOT, session


def follow_the_page() -> dict[str, Any]:
    """Run the code of docs/from_ddp.md, and hold what it says of EMAs and of two workers against what happens."""
    with tempfile.TemporaryDirectory() as own:  # one folder for all ranks, as the page saves to one
        shared = [own]
        dist.broadcast_object_list(shared)
        os.chdir(shared[0])
        torch.manual_seed(dist.get_rank())  # data of their own, and models that Gossip makes alike
        page: dict[str, Any] = {"__name__": "from_ddp"}
        exec(compile(session(ROOT / "docs" / "from_ddp.md"), "from_ddp.md", "exec"), page)
        files = sorted(os.listdir(shared[0]))
        dist.barrier()
        os.chdir("/")
    return {
        "world_size": page["world_size"],
        "distance": page["gossip"].consensus_distance(),
        "files": files,
        "ema": _difference_of_emas(),
        "distances of two": _distances_of_two(),
        "transport elsewhere": _transport_without_linux(),
    }


def _difference_of_emas() -> float:
    """Return how far the mean of the ranks' EMAs is from the EMA of the mean model, on a ring of different data."""
    model, optimizer, gossip = _start("ring", dist.get_world_size(), None)
    mine = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    of_mean: Tensor | None = None
    for step in range(6):
        _train(model, optimizer, step)
        mine.update_parameters(model)
        mean = gossip.averaged_state_dict()["weight"]
        of_mean = mean if of_mean is None else 0.9 * of_mean + 0.1 * mean
    mean_of = mine.module.weight.detach().clone()
    dist.all_reduce(mean_of)
    assert of_mean is not None
    return float((mean_of / dist.get_world_size() - of_mean).abs().max())


def _distances_of_two() -> list[float]:
    """Return the consensus distance of a pair of workers after each step."""
    pairs = [dist.new_group([rank, rank + 1]) for rank in range(0, dist.get_world_size(), 2)]
    model, optimizer, gossip = _start("one_peer_exponential", 2, pairs[dist.get_rank() // 2])
    distances = []
    for step in range(4):
        _train(model, optimizer, step)
        distances.append(gossip.consensus_distance())
    return distances


def _transport_without_linux() -> str | None:
    """Return how models travel where memory cannot be shared as on Linux."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(os, "memfd_create")
        _, _, gossip = _start("ring", dist.get_world_size(), None)
    return gossip.transport


def _start(
    topology: str, world_size: int, group: dist.ProcessGroup | None
) -> tuple[nn.Linear, torch.optim.Optimizer, sgp_core.Gossip]:
    model = nn.Linear(8, 4, bias=False, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    algorithm, graph = sgp_core.build_algorithm("sgp"), sgp_core.build_topology(topology, world_size=world_size)
    return model, optimizer, sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=graph, process_group=group)


def _train(model: nn.Linear, optimizer: torch.optim.Optimizer, step: int) -> None:
    dice = torch.Generator().manual_seed(100 * dist.get_rank() + step)
    model(torch.randn(16, 8, generator=dice, dtype=torch.float64)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
