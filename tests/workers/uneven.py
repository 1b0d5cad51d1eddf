"""What real workers do in test_uneven.py: their batches run out at different times."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sgp_core
from sgp_core import Gossip
from sgp_core.algorithms import Algorithm
from sgp_core.errors import ConfigurationError
from tests.workers.agreement import make_algorithm

WORKERS = 4
BATCHES = (3, 7, 5, 7)
SIZE = 6
RATE = 0.1

TWO_STEPS = sgp_core.build_algorithm("sgp", overlap_steps=2)
CASES: dict[str, tuple[tuple[str, ...] | Algorithm, str, dict[str, Any]]] = {
    "sgp": (("sgp",), "ring", {"transport": "p2p"}),
    "weights": (("sgp",), "star", {"transport": "p2p"}),
    "memory": (("sgp",), "star", {"transport": "shared_memory"}),
    "ahead": (("osgp",), "ring", {"transport": "p2p"}),
    "in flight": (TWO_STEPS, "ring", {}),
    "dpsgd": (("dpsgd",), "one_peer_exponential", {}),
    "local_sgd": (("local_sgd",), "complete", {}),
    "slowmo": (("sgp", "slowmo"), "ring", {}),
    "slowmo on weights": (("osgp", "slowmo"), "star", {}),
    "allreduce": (("allreduce",), "complete", {}),
    "tracking": (("gradient_tracking",), "ring", {}),
    "own momentum": (("qg_dsgdm",), "ring", {}),
    "in backward": (("sgp",), "star", {"step_in_backward": True, "transport": "p2p"}),
    "paced": (("sgp",), "ring", {"pace": sgp_core.build_pace("every", steps=2)}),
}


def rule_of(case: str) -> Algorithm:
    algorithm = CASES[case][0]
    return algorithm if isinstance(algorithm, Algorithm) else make_algorithm(*algorithm)


def targets() -> Tensor:
    return torch.arange(WORKERS * SIZE, dtype=torch.float64).view(WORKERS, SIZE) / 10


class Pull(nn.Module):
    """Pulls its parameters to this worker's target."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.zeros(SIZE, dtype=torch.float64))
        self.b = targets()[rank]

    def forward(self) -> Tensor:
        return 0.5 * (self.z - self.b).square().sum()


def train_unevenly() -> dict[str, dict[str, Any]]:
    """Return what each case ends in on this worker."""
    rank = dist.get_rank()
    found = {}
    for name, (_, topology, options) in CASES.items():
        model = Pull(rank)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        graph = sgp_core.build_topology(topology, world_size=WORKERS)
        gossip = Gossip(model, optimizer, algorithm=rule_of(name), topology=graph, **options)
        with gossip.join():
            for _ in range(BATCHES[rank]):
                optimizer.zero_grad()
                model().backward()
                optimizer.step()
        state = gossip.state_dict()
        found[name] = {"z": model.z.detach().clone(), "w": gossip.push_sum_weight, "step": gossip.step}
        gossip.finish()
        found[name] |= {"x": model.z.detach() * gossip.push_sum_weight, "weight": gossip.push_sum_weight}
        assert state["step"] == gossip.step
        gossip.close()
    return found


def stay_equal(node_size: int) -> dict[str, Any]:
    """Train with gradients that are averaged, momentum, a schedule and clipping; return replica and momentum."""
    rank = dist.get_rank()
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    algorithm = "allreduce" if node_size == 1 else "sgp"
    graph = sgp_core.build_topology("complete", world_size=WORKERS // node_size)
    gossip = Gossip(model, optimizer, algorithm=make_algorithm(algorithm), topology=graph, node_size=node_size)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    with gossip.join():
        for _ in range(BATCHES[rank]):
            optimizer.zero_grad()
            model(torch.randn(5, 3)).square().sum().backward()
            gossip.clip_grad_norm_(0.1)
            optimizer.step()
            schedule.step()
    moved = sum(float((now - then).norm()) for now, then in zip(model.parameters(), start, strict=True))
    momenta = [optimizer.state[parameter]["momentum_buffer"] for parameter in model.parameters()]
    return {
        "model": list(map(torch.clone, model.parameters())),
        "momenta": momenta,
        "moved": moved,
        "step": gossip.step,
    }


def refuse() -> list[str]:
    """Return what is said to those who ask for too much."""
    said = []

    def note(error: Exception) -> None:
        said.append(f"{type(error).__name__}: {error}")

    model = Pull(dist.get_rank())
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    gossip = Gossip(model, optimizer, algorithm=make_algorithm("sgp"))
    with gossip.join():
        try:
            with gossip.averaged():
                pass
        except RuntimeError as error:
            note(error)
        try:
            with gossip.join():
                pass
        except RuntimeError as error:
            note(error)
    gossip.close()
    asynchronous = Gossip(model, optimizer, algorithm=make_algorithm("asgp"))
    try:
        with asynchronous.join():
            pass
    except ConfigurationError as error:
        note(error)
    asynchronous.finish()
    asynchronous.close()
    return said


def everything() -> dict[str, Any]:
    return {
        "uneven": train_unevenly(),
        "allreduce": stay_equal(1),
        "nodes": stay_equal(2),
        "whole nodes": stay_equal(4),
        "refused": refuse(),
    }
