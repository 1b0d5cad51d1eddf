"""One small real problem, solved by real workers and by the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn

import sgp_core
from sgp_core.algorithms import ALGORITHMS, Algorithm
from sgp_core.topology import Topology
from sgp_core.training.muon import MuonAdamW

STEPS = 24
"""Two times the steps after which periods of 3 and of 4 meet again."""


@dataclass(frozen=True)
class Irregular(Topology):
    """Out-degrees 3, 1, 1, 1, alternating with a one-way ring: weights leave 1."""

    @property
    def period(self) -> int:
        return 2

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        if step % 2:
            return [(rank + 1) % self.world_size]
        return [1, 2, 3] if rank == 0 else [rank - 1]


@dataclass(frozen=True)
class Lopsided(Topology):
    """A one-way ring, in which worker 0 sends to all at every other step: for any number of workers."""

    @property
    def period(self) -> int:
        return 2

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        n = self.world_size
        return list(range(1, n)) if rank == 0 and step % 2 == 0 else [(rank + 1) % n] if n > 1 else []


Case = tuple[Algorithm, Topology, str, dict[str, Any]]
"""The rule, the graph, the kind of optimizer, and more options of ``Gossip``."""

BATCH = 8


def make_algorithm(name: str, outer: str | None = None, **outer_options: Any) -> Algorithm:
    base = sgp_core.build_algorithm(name, **({"period": 3} if "period" in ALGORITHMS.options(name) else {}))
    return base if outer is None else sgp_core.build_outer(outer, base, **{"tau": 4, **outer_options})


def make_optimizer(parameters: Any, kind: str = "sgd") -> torch.optim.Optimizer:
    if kind == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2)
    if kind == "muon":
        parameters = list(parameters)
        matrices = [parameter for parameter in parameters if parameter.dim() == 2]
        others = [parameter for parameter in parameters if parameter.dim() != 2]
        return MuonAdamW([{"params": matrices, "lr": 0.02}], [{"params": others}])
    if kind == "plain":
        return torch.optim.SGD(parameters, lr=0.02, weight_decay=1e-4)
    if kind == "without decay":
        return torch.optim.SGD(parameters, lr=0.02, momentum=0.9)
    return torch.optim.SGD(parameters, lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4)


def make_model(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).to(dtype)


def batch(rank: int, step: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Worker ``rank`` sees its own part of the digits, sorted by class: as unlike its neighbours' as can be."""
    images, labels = _parts()[rank % 4]
    chosen = torch.arange(step * BATCH, (step + 1) * BATCH) % len(labels)
    return images[chosen].to(dtype), labels[chosen]


@cache
def _parts() -> list[tuple[Tensor, Tensor]]:
    images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    order = torch.argsort(labels, stable=True)
    return [(images[part] / 16, labels[part]) for part in order.chunk(4)]


def flatten(model: nn.Module) -> Tensor:
    """Return all parameters as workers store them: the last first."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in reversed(list(model.parameters()))])


def train_here(
    algorithm: Algorithm, topology: Topology, kind: str = "sgd", steps: int = STEPS, **options: Any
) -> dict[str, Any]:
    """Train as this rank of the running group; return the parameters after each step and the weights."""
    model = make_model()
    optimizer = make_optimizer(model.parameters(), kind)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, **options)
    models, weights = [flatten(model)], [gossip.push_sum_weight]
    for step in range(steps):
        inputs, targets = batch(gossip.rank, step)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        models.append(flatten(model))
        weights.append(gossip.push_sum_weight)
    distance, estimate = gossip.consensus_distance(), gossip.consensus_estimate
    numbers = gossip.state_dict()["pace"]["numbers"] if options.get("pace") else None
    gossip.close()
    return {
        "z": torch.stack(models),
        "w": torch.tensor(weights, dtype=torch.float64),
        "distance": distance,
        "estimate": estimate,
        "numbers": numbers,
        "transport": gossip.transport,
        "sent": gossip.bytes_sent,
        "sent_inside": gossip.bytes_sent_inside,
    }


def train_cases(
    cases: list[tuple[Algorithm, Topology, str]], steps: int = STEPS, transport: str = "auto"
) -> list[dict[str, Any]]:
    """Train every case, one after another, in one group of workers."""
    results = []
    for algorithm, topology, kind in cases:
        results.append(train_here(algorithm, topology, kind, steps, transport=transport))
        dist.barrier()
    return results


def train_ways(cases: list[Case], transports: Sequence[str], steps: int) -> list[dict[str, dict[str, Any]]]:
    """Train every case over every transport, one after another; return what each found.

    Coded messages, and those between nodes, go by messages of the process group alone: there the first will do.
    """
    results: list[dict[str, dict[str, Any]]] = []
    for algorithm, topology, kind, options in cases:
        ways: dict[str, dict[str, Any]] = {}
        alone = {"compression", "node_size"} & options.keys()
        for transport in transports[:1] if alone else transports:
            ways[transport] = train_here(algorithm, topology, kind, steps, transport=transport, **options)
            dist.barrier()
        results.append(ways)
    return results


def targets(n: int) -> Tensor:
    """Return where each of ``n`` workers would like 300 numbers to be, ``[n, 300]``."""
    return torch.arange(300 * n, dtype=torch.float64).view(n, 300).sin()


def follow_targets(cases: list[Case], steps: int) -> list[Tensor]:
    """Let 300 numbers follow this worker's target, in every case; return them after each step.

    Gradients are single subtractions, which round alike wherever they are made.
    """
    found = []
    for algorithm, topology, kind, options in cases:
        model = nn.ParameterList([nn.Parameter(torch.ones(300, dtype=torch.float64))])
        optimizer = make_optimizer(model.parameters(), kind)
        gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, **options)
        trajectory = []
        for _ in range(steps):
            model[0].grad = model[0].detach() - targets(topology.world_size)[gossip.rank]
            optimizer.step()
            trajectory.append(model[0].detach().clone())
        gossip.close()
        found.append(torch.stack(trajectory))
    return found


def simulate_case(
    algorithm: Algorithm, topology: Topology, kind: str = "sgd", steps: int = STEPS, **options: Any
) -> Any:
    """The same in the simulator."""
    model = make_model()
    shapes = [(name, parameter.shape) for name, parameter in model.named_parameters()][::-1]
    sizes = [shape.numel() for _, shape in shapes]

    def gradient(z: Tensor, step: int) -> Tensor:
        rows = []
        for rank, row in enumerate(z):
            leaf = row.clone().requires_grad_()
            parts = leaf.split(sizes)
            named = {name: part.view(shape) for (name, shape), part in zip(shapes, parts, strict=True)}
            inputs, targets = batch(rank, step)
            loss = nn.functional.cross_entropy(torch.func.functional_call(model, named, (inputs,)), targets)
            rows.append(torch.autograd.grad(loss, leaf)[0])
        return torch.stack(rows)

    if "compression" in options:
        options["shapes"] = [tuple(shape) for _, shape in shapes]
    initial = flatten(model).expand(topology.world_size, -1)
    return sgp_core.simulate(
        algorithm,
        topology,
        initial,
        gradient,
        optimizer=lambda p: make_optimizer(p, kind),
        steps=steps,
        **options,
    )
