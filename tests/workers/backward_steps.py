"""What real workers do in test_in_backward.py: each function runs in every worker of one gloo group."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.pacing import Pace
from sgp_core.topology import Topology
from tests.workers.agreement import batch, flatten, make_model, make_optimizer
from tests.workers.features import Awkward, tensor_bytes

PART_MB = 300 * 8 / 2**20
"""Cuts the model of agreement.py, 1,210 float64 numbers in four parameters, into three parts."""

Case = tuple[Algorithm, Topology, str, dict[str, Any]]


def make_gossip(
    model: nn.Module, optimizer: torch.optim.Optimizer, in_backward: bool, *, part_mb: float = PART_MB, **options: Any
) -> sgp_core.Gossip:
    if in_backward:
        options |= {"step_in_backward": True, "part_mb": part_mb}
    return sgp_core.Gossip(model, optimizer, **options)


def train(
    case: Case, transport: str, in_backward: bool, steps: int, stop: int = 0, turn: bool = True
) -> dict[str, Any]:
    """Train; with ``stop``, begin anew from the state after so many steps, with ``turn`` the other way of stepping."""
    algorithm, topology, kind, options = case

    def make(in_backward: bool) -> tuple[nn.Module, torch.optim.Optimizer, sgp_core.Gossip]:
        model = make_model()
        optimizer = make_optimizer(model.parameters(), kind)
        chosen = {"algorithm": algorithm, "topology": topology, "transport": transport, **options}
        return model, optimizer, make_gossip(model, optimizer, in_backward, **chosen)

    model, optimizer, gossip = make(in_backward)
    models, weights = [], []
    for step in range(steps):
        if stop and step == stop:
            state, of_optimizer = gossip.state_dict(), optimizer.state_dict()
            gossip.close()
            model, optimizer, gossip = make(in_backward != turn)
            optimizer.load_state_dict(of_optimizer)
            gossip.load_state_dict(state)
        inputs, targets = batch(gossip.rank, step)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        models.append(flatten(model))
        weights.append(gossip.push_sum_weight)
        if step % 5 == 4:
            with gossip.averaged():
                models.append(flatten(model))
    gossip.finish()
    models.append(flatten(model))
    found = {"z": torch.stack(models), "w": weights, "sent": gossip.bytes_sent, "distance": gossip.consensus_distance()}
    gossip.close()
    return found


def both_ways(cases: list[Case], steps: int) -> list[dict[str, Any]]:
    """Train every case over both transports, after backward and inside it, and resumed from one to the other."""
    found = []
    for case in cases:
        ways: dict[str, Any] = {}
        for transport in ("p2p", "shared_memory"):
            ways[f"after, {transport}"] = train(case, transport, False, steps)
            ways[f"inside, {transport}"] = train(case, transport, True, steps)
            dist.barrier()
        ways["resumed inside"] = train(case, "p2p", False, steps, stop=steps // 2)
        ways["resumed after"] = train(case, "shared_memory", True, steps, stop=steps // 2)
        dist.barrier()
        found.append(ways)
    return found


def awkward(in_backward: bool) -> list[Tensor]:
    """Train a model with tied, frozen and never-used parameters and three dtypes; return its trainables."""
    torch.manual_seed(dist.get_rank())
    model = Awkward()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    topology = sgp_core.build_topology("ring", world_size=dist.get_world_size())
    algorithm = sgp_core.build_algorithm("sgp")
    chosen: dict[str, Any] = {"algorithm": algorithm, "topology": topology, "transport": "p2p"}
    gossip = make_gossip(model, optimizer, in_backward, part_mb=100 / 2**20, **chosen)
    source = torch.Generator().manual_seed(dist.get_rank())
    for _ in range(5):
        model(torch.randn(2, 3, 6, 6, generator=source)).backward()
        optimizer.step()
        optimizer.zero_grad()
    gossip.close()
    return [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]


def accumulating_and_clipping(in_backward: bool) -> Tensor:
    """Train on gradients of two batches a step, clipped to a norm that they exceed."""
    model = make_model()
    optimizer = make_optimizer(model.parameters())
    chosen: dict[str, Any] = {"algorithm": sgp_core.build_algorithm("sgp"), "transport": "p2p"}
    if in_backward:
        chosen["max_norm"] = 0.5
    gossip = make_gossip(model, optimizer, in_backward, **chosen)
    for step in range(20):
        for part in range(2):
            inputs, targets = batch(gossip.rank, 2 * step + part)
            with gossip.no_sync() if part == 0 else nullcontext():
                nn.functional.cross_entropy(model(inputs), targets).backward()
        if not in_backward:
            gossip.clip_grad_norm_(0.5)
        optimizer.step()
        optimizer.zero_grad()
    gossip.close()
    return flatten(model)


class Watched(torch.autograd.Function):
    """Notes, in backward, how many bytes have been handed over to be sent."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, note: Any) -> Tensor:
        ctx.note = note
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ctx.note()
        return gradients[0], None


def leaving(overlap_steps: int) -> dict[str, Any]:
    """Return how many parts have left at each of eight layers of backward, memory added, and steady allocations."""
    layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(8))
    left: list[int] = []
    posted: list[int] = []

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for layer in layers:
                x = Watched.apply(layer(x), lambda: left.append(len(posted)))
            return x

    model = Model()
    model.layers = layers
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = tensor_bytes()
    algorithm = sgp_core.build_algorithm("sgp", overlap_steps=overlap_steps, order="adapt_then_combine")
    topology = sgp_core.build_topology("one_peer_exponential", world_size=dist.get_world_size())
    chosen: dict[str, Any] = {"algorithm": algorithm, "topology": topology, "transport": "p2p"}
    gossip = make_gossip(model, optimizer, True, part_mb=64 * 65 * 4 / 2**20, **chosen)
    transport: Any = gossip.network.transport
    verb = "push" if overlap_steps else "post"
    original = getattr(transport, verb)

    def counted(*arguments: Any) -> Any:
        posted.append(1)
        return original(*arguments)

    for _ in range(4):
        model(torch.ones(1, 64)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    added = tensor_bytes() - before
    left.clear()
    setattr(transport, verb, counted)
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    gossip.close()
    parameters = sum(p.numel() * 4 for p in model.parameters())
    return {"left": left, "posted": len(posted), "added": added, "parameters": parameters}


def scaled() -> list[tuple[int, float]]:
    """Train with a scaler that all share, one worker's gradients overflowing once; return steps and scales."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gossip = make_gossip(model, optimizer, False, algorithm=sgp_core.build_algorithm("sgp"))
    scaler = ShardedGradScaler("cpu", init_scale=4.0)
    found = []
    for step in range(3):
        loss = model(torch.ones(1, 4)).sum()
        if (step, gossip.rank) == (1, 1):
            loss = loss * torch.inf
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        found.append((gossip.step, scaler.get_scale()))
    gossip.close()
    return found


def paced(pace: Pace) -> dict[str, Any]:
    """Train both ways at a pace."""
    graph = sgp_core.build_topology("one_peer_exponential", world_size=dist.get_world_size())
    case: Case = (sgp_core.build_algorithm("sgp"), graph, "sgd", {"pace": pace})
    return {way: train(case, "p2p", way == "inside", 24) for way in ("after", "inside")}


def at_the_side(paces: list[Pace]) -> dict[str, Any]:
    """Do the rest in one group of workers."""
    return {
        "awkward": [awkward(in_backward) for in_backward in (False, True)],
        "clipped": [accumulating_and_clipping(in_backward) for in_backward in (False, True)],
        "leaving": [leaving(overlap_steps) for overlap_steps in (0, 1)],
        "paced": [paced(pace) for pace in paces],
        "scaled": scaled(),
    }
