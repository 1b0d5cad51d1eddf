"""What real workers do in tests/integrations/test_fairscale.py. fairscale takes CUDA for granted: here it gets none."""

from __future__ import annotations

import contextlib
import os
import runpy
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sgp_core.integrations import fairscale as ours
from tests.docs.pages import EXAMPLES

STEPS, FEWER_STEPS = 50, 22
NO_SLOWMO = {"slowmo_momentum": 0.0}
BLOCKS = {"slowmo_frequency": 6, "slowmo_momentum": 0.5}

CASES: dict[str, dict[str, Any]] = {
    # on their own: SGP and local SGD, in double precision
    "sgp": {"slowmo_base_algorithm": "sgp", **NO_SLOWMO},
    "localsgd": {"slowmo_base_algorithm": "localsgd", **NO_SLOWMO},
    # under SlowMo, which fairscale does in single precision only; the block begins where the paper says
    "sgp slowmo": {"slowmo_base_algorithm": "sgp", "slowmo_memory_efficient": False, **BLOCKS},
    "localsgd slowmo": {"slowmo_base_algorithm": "localsgd", "slowmo_lr": 0.8, **BLOCKS},
    # with what fairscale does otherwise
    "sgp imitated": {"slowmo_base_algorithm": "sgp", **BLOCKS},
    "sgp averaged imitated": {
        "slowmo_base_algorithm": "sgp",
        "slowmo_memory_efficient": False,
        "slowmo_sgp_average_params": True,
        **BLOCKS,
    },
    "localsgd imitated": {"slowmo_base_algorithm": "localsgd", "localsgd_frequency": 4, **BLOCKS},
    "localsgd unaligned imitated": {
        "slowmo_base_algorithm": "localsgd",
        "localsgd_frequency": 4,
        "slowmo_memory_efficient": False,
        **BLOCKS,
    },
    "nodes imitated": {"slowmo_base_algorithm": "sgp", "nprocs_per_node": 2, "slowmo_num_shards": 3, **BLOCKS},
}

GRAPHS = (
    "NPeerDynamicDirectedExponentialGraph",
    "DynamicDirectedExponentialGraph",
    "DynamicBipartiteExponentialGraph",
    "DynamicDirectedLinearGraph",
    "DynamicBipartiteLinearGraph",
    "RingGraph",
)

IN_50_STEPS = [*list(CASES)[:5], "localsgd imitated"]
CONVERTED = ["sgp imitated", "localsgd unaligned imitated", "nodes imitated"]


class _Stream:
    def wait_stream(self, other: object) -> None:
        """There is nothing to wait for."""

    def synchronize(self) -> None:
        """Likewise."""


@contextlib.contextmanager
def without_cuda() -> Iterator[None]:
    """Let code that calls CUDA unconditionally run on the CPU: its calls do nothing."""
    with contextlib.ExitStack() as stack:
        for where, name, what in (
            (torch.cuda, "synchronize", lambda *_: None),
            (torch.cuda, "current_stream", lambda *_: _Stream()),
            (torch.cuda, "stream", lambda *_: contextlib.nullcontext()),
            (Tensor, "cuda", lambda tensor, *_: tensor),
            (Tensor, "pin_memory", lambda tensor, *_: tensor),
        ):
            stack.enter_context(patch.object(where, name, what))
        yield


def build(dtype: torch.dtype) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model of 61 parameters, the same on every rank, and its optimizer of two groups, one of them slower."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2), nn.Tanh(), nn.Linear(2, 1)).to(dtype)
    groups = [
        {"params": model[0].parameters()},
        {"params": [*model[2].parameters(), *model[4].parameters()], "lr": 0.02},
    ]
    return model, torch.optim.SGD(groups, lr=0.05, momentum=0.9)


def flat(model: nn.Module) -> Tensor:
    """Return all parameters as one vector."""
    return torch.cat([each.detach().flatten().double() for each in model.parameters()])


def gradient(model: nn.Module, module: nn.Module, step: int) -> None:
    """Compute the gradient of this rank's own examples."""
    dtype = next(model.parameters()).dtype
    dice = torch.Generator().manual_seed(1000 * dist.get_rank() + step)
    inputs = torch.randn(8, 5, dtype=torch.float64, generator=dice).to(dtype)
    (module(inputs) - inputs.sum(1, keepdim=True).sin()).square().mean().backward()


def set_rates(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Lower the learning rates in the middle of the run."""
    for group, rate in zip(optimizer.param_groups, (0.05, 0.02), strict=True):
        group["lr"] = rate * (1.0 if step < 15 else 0.5)


class Theirs:
    """A worker of fairscale."""

    def __init__(self, case: dict[str, Any], dtype: torch.dtype, *, from_start: bool) -> None:
        from fairscale.experimental.nn.data_parallel import SlowMoDistributedDataParallel

        arguments = {"nprocs_per_node": 1, **case}
        self.model, self.optimizer = build(dtype)
        self.wrapper = SlowMoDistributedDataParallel(self.model, **arguments)
        if from_start:  # which its own comments leave to the caller
            ours.begin_first_block(self.wrapper, self.optimizer)

    def step(self, step: int) -> Tensor:
        """Take a step; return the model."""
        set_rates(self.optimizer, step)
        gradient(self.model, self.wrapper, step)
        self.optimizer.step()
        self.wrapper.perform_slowmo(self.optimizer)
        self.optimizer.zero_grad()
        return flat(self.model)


class Ours:
    """A worker of ours."""

    def __init__(self, case: dict[str, Any], dtype: torch.dtype, *, imitate: bool) -> None:
        self.model, self.optimizer = build(dtype)
        self.gossip = ours.attach(self.model, self.optimizer, imitate=imitate, **case)

    def step(self, step: int) -> Tensor:
        """Take a step; return the model."""
        set_rates(self.optimizer, step)
        gradient(self.model, self.model, step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return flat(self.model)


def compare(name: str) -> dict[str, Any]:
    """Return how far the two are apart after each step, and how far training has gone."""
    case = CASES[name]
    dtype = torch.float64 if case.get("slowmo_momentum") == 0 else torch.float32
    imitate = name.endswith("imitated")
    theirs, mine = Theirs(case, dtype, from_start=not imitate), Ours(case, dtype, imitate=imitate)
    start = flat(mine.model)
    steps = STEPS if name in IN_50_STEPS else FEWER_STEPS
    pairs = [(theirs.step(step), mine.step(step)) for step in range(steps)]
    mine.gossip.close()
    return {
        "apart": [float((one - other).abs().max()) for one, other in pairs],
        "moved": float((pairs[-1][1] - start).abs().max()),
        "model": pairs[-1][1],
    }


def as_published() -> list[float]:
    """Return how far fairscale as it is, and the published order, are apart at the end of every block."""
    case = CASES["sgp imitated"]
    theirs, mine = Theirs(case, torch.float32, from_start=False), Ours(case, torch.float32, imitate=False)
    pairs = [(theirs.step(step), mine.step(step)) for step in range(24)]
    mine.gossip.close()
    return [float((one - other).abs().max()) for one, other in pairs[5::6]]


def convert(name: str) -> dict[str, Any]:
    """Change over in the middle of a block, both ways; go on in all three."""
    case = CASES[name]
    shards = case.get("slowmo_num_shards", 32) if case.get("slowmo_memory_efficient", True) else None
    theirs = Theirs(case, torch.float32, from_start=False)
    for step in range(FEWER_STEPS):
        theirs.step(step)
    held = ours.read_state(theirs.wrapper, theirs.optimizer)
    mine = Ours(case, torch.float32, imitate=True)
    ours.to_gossip(mine.gossip, mine.model, mine.optimizer, held)
    back = ours.from_gossip(mine.gossip, mine.model, mine.optimizer, shards)
    again = Theirs(case, torch.float32, from_start=False)
    ours.write_state(again.wrapper, again.optimizer, back)
    read_again = ours.read_state(again.wrapper, again.optimizer)
    apart = []
    for step in range(FEWER_STEPS, 2 * FEWER_STEPS):
        models = [each.step(step) for each in (theirs, mine, again)]
        apart += [float((models[0] - other).abs().max()) for other in models[1:]]
    mine.gossip.close()
    return {"held": held, "back": read_again, "apart": apart}


def start_from_a_checkpoint() -> dict[str, Any]:
    """Go on from what fairscale's own state_dict() holds, which is no more than the model."""
    case = CASES["localsgd imitated"]
    theirs = Theirs(case, torch.float32, from_start=False)
    for step in range(7):
        theirs.step(step)
    held = ours.read_checkpoint(theirs.wrapper.state_dict(), theirs.optimizer.state_dict(), num_updates=7)
    mine = Ours(case, torch.float32, imitate=True)
    ours.to_gossip(mine.gossip, mine.model, mine.optimizer, held)
    found = {"same": torch.equal(flat(mine.model), flat(theirs.model)), "step": mine.gossip.step}
    mine.step(7)
    mine.gossip.close()
    return found


def compare_graphs() -> dict[str, list[bool]]:
    """Return whether each graph of fairscale's is read right at every step of two periods, and whether its default is
    that of ours."""
    from fairscale.experimental.nn.data_parallel.gossip import graph_manager

    found: dict[str, list[bool]] = {}
    rank, size = dist.get_rank(), dist.get_world_size()
    for name in GRAPHS:
        graph = getattr(graph_manager, name)(rank, size)
        topology = ours.from_arguments(size, slowmo_base_algorithm="sgp", graph=graph)["topology"]
        default = ours.from_arguments(size, slowmo_base_algorithm="sgp")["topology"]
        found[name], found[f"{name} is the default"] = [], []
        for step in range(2 * topology.period):
            peers, _ = graph.get_peers(rotate=step > 0 and graph.is_dynamic_graph())
            found[name].append(tuple(peers) == topology.out_peers(rank, step))
            found[f"{name} is the default"].append(tuple(peers) == default.out_peers(rank, step))
    return found


def run_the_scripts(folder: str) -> dict[str, Any]:
    """Run docs/examples/from_*.py as torchrun would, and go on with one of fairscale's states in the other."""
    found: dict[str, Any] = {}
    os.environ["LOCAL_RANK"] = str(dist.get_rank())
    os.chdir(folder)
    for name in ("from_ddp_before", "from_ddp_after", "from_fairscale_before", "from_fairscale_after"):
        torch.manual_seed(0)
        with patch.object(dist, "init_process_group"):  # there is one
            found[name] = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")["found"]
        dist.barrier()
    os.chdir("/")
    return found


def use_fairscale(folder: str) -> dict[str, Any]:
    """Do all of it, in one start of four workers."""
    with without_cuda():
        found: dict[str, Any] = {name: compare(name) for name in CASES}
        found["as published"] = as_published()
        found["converted"] = {name: convert(name) for name in CONVERTED}
        found["checkpoint"] = start_from_a_checkpoint()
        found["graphs"] = compare_graphs()
        found["scripts"] = run_the_scripts(folder)
    return found
