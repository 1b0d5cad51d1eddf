"""A small problem in float64 that workers on GPUs solve, and the simulator on the CPU: they must agree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.simulator.trajectory import Trajectory
from sgp_core.topology import Topology

SIZES = (24, 40, 5)
STEPS = 50


@dataclass(frozen=True)
class Irregular(Topology):
    """Out-degrees n-1 and 1, then 1 and 0: directed, and not doubly stochastic, so that PushSum weights leave 1."""

    @property
    def period(self) -> int:
        return 2

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        n = self.world_size
        if step % 2 == 0:
            return list(range(1, n)) if rank == 0 else [rank - 1]
        return [rank + 1] if rank % 2 == 0 and rank + 1 < n else []


def topology(name: str, n: int) -> Topology:
    """Return a graph by name, :class:`Irregular` among them."""
    return Irregular(n) if name == "irregular" else sgp_core.build_topology(name, world_size=n)


def make_model() -> nn.Sequential:
    """Return the model all start from."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(SIZES[0], SIZES[1]), nn.Tanh(), nn.Linear(SIZES[1], SIZES[2])).double()


def make_optimizer(parameters: object) -> torch.optim.Optimizer:
    """Return plain SGD with momentum."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True)  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def examples(rank: int) -> tuple[Tensor, Tensor]:
    """Return the data of one worker, unlike that of the others."""
    generator = torch.Generator().manual_seed(100 + rank)
    inputs = torch.randn(32, SIZES[0], generator=generator, dtype=torch.float64) + rank
    return inputs, torch.randn(32, SIZES[2], generator=generator, dtype=torch.float64) - rank


def flatten(model: nn.Module) -> Tensor:
    """Return all parameters on the CPU, as workers store them: the last first."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in reversed(list(model.parameters()))]).cpu()


@lru_cache(maxsize=64)
def simulated(algorithm: Algorithm, graph: Topology, steps: int = STEPS) -> Trajectory:
    """Solve it in the simulator, on the CPU."""
    model = make_model()
    shapes = [(name, parameter.shape) for name, parameter in model.named_parameters()][::-1]
    sizes = [shape.numel() for _, shape in shapes]

    def gradient(z: Tensor, step: int) -> Tensor:
        rows = []
        for rank, row in enumerate(z):
            leaf = row.clone().requires_grad_()
            parts = zip(shapes, leaf.split(sizes), strict=True)
            named = {name: part.view(shape) for (name, shape), part in parts}
            inputs, targets = examples(rank)
            loss = nn.functional.mse_loss(torch.func.functional_call(model, named, (inputs,)), targets)
            rows.append(torch.autograd.grad(loss, leaf)[0])
        return torch.stack(rows)

    start = flatten(model).expand(graph.world_size, -1)
    return sgp_core.simulate(algorithm, graph, start, gradient, optimizer=make_optimizer, steps=steps)
