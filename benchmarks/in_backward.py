"""When the first part of a model leaves, where steps are taken inside backward: in eager mode, and compiled by blocks.

    python benchmarks/in_backward.py                     # 2 workers, three models
    python benchmarks/in_backward.py --models mlp_25M --rounds 9 --json in_backward.json

SGP over messages, on the one-peer exponential graph. A round is a step of each way of stepping in turn, in the same
workers: after backward, and inside it. ``backward`` is that of steps after it, so that nothing but gradients is
computed in it. ``leaves`` says how long after the begin of backward the first part of the model was handed over to be
sent, and the last, as shares of that time: with steps inside, backward itself is longer, by the optimizer's work.
Figures are means over workers, and medians over rounds. A model compiled as a whole has all its gradients at once;
it is measured to show that.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import sgp_core
from step_overhead import CLASSES, MODELS
from suite import tables
from suite.workers import as_program, in_workers, machine

EAGER, BLOCKS, WHOLE = "eager", "blocks compiled", "compiled as a whole"
_WARM_UP = 4
_BATCH = 32


class Stepping:
    """A model that is trained, after backward or inside it, and notes when parts of it leave."""

    def __init__(self, model: nn.Module, inside: bool) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        topology = sgp_core.build_topology("one_peer_exponential", world_size=dist.get_world_size())
        algorithm = sgp_core.build_algorithm("sgp")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a model compiled as a whole
            self.gossip = sgp_core.Gossip(
                model,
                self.optimizer,
                algorithm=algorithm,
                topology=topology,
                transport="p2p",
                step_in_backward=inside,
            )
        self.left: list[float] = []
        network: Any = self.gossip.network
        transport = network.transport
        post = transport.post

        def noted(*arguments: Any) -> Any:
            self.left.append(time.perf_counter())
            return post(*arguments)

        transport.post = noted

    def step(self, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Take a step; return the seconds of backward and of the step, and from its begin until parts have left."""
        self.left.clear()
        began = time.perf_counter()
        loss = nn.functional.cross_entropy(self.model(inputs), targets)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad()
        end = time.perf_counter()
        found = {"backward_s": backward - forward, "step_s": end - began}
        if self.left:
            found |= {"first_s": self.left[0] - forward, "last_s": self.left[-1] - forward, "parts": len(self.left)}
        return found


def compiled(model: nn.Module, how: str) -> nn.Module:
    """Compile the model in place: its residual blocks, or where it has none its linear layers; or all of it."""
    if how == WHOLE:
        model.compile()
    elif how == BLOCKS:
        blocks = [m for m in model.modules() if type(m).__name__ == "BasicBlock"]
        for block in blocks or [m for m in model.modules() if isinstance(m, nn.Linear)]:
            block.compile()
    return model


def measure(name: str, ways: list[str], rounds: int) -> dict[str, Any]:
    """Return, by way of compiling, what each round took, averaged over workers."""
    make, shape = MODELS[name]
    torch.manual_seed(dist.get_rank())
    inputs, targets = torch.randn(_BATCH, *shape), torch.randint(CLASSES, (_BATCH,))
    both = {way: [Stepping(compiled(make(), way), inside) for inside in (False, True)] for way in ways}
    found: dict[str, Any] = {way: [] for way in ways}
    for number in range(_WARM_UP + rounds):
        for way, (after, inside) in both.items():
            dist.barrier()
            usual = after.step(inputs, targets)
            dist.barrier()
            early = inside.step(inputs, targets)
            if number >= _WARM_UP:
                backward = _mean(usual["backward_s"])
                found[way].append(
                    {
                        "backward_ms": backward * 1e3,
                        "first_leaves": _mean(early["first_s"]) / backward,
                        "last_leaves": _mean(early["last_s"]) / backward,
                        "step_after_ms": _mean(usual["step_s"]) * 1e3,
                        "step_inside_ms": _mean(early["step_s"]) * 1e3,
                        "parts": early["parts"],
                    }
                )
    return {"parameters": sum(p.numel() for p in make().parameters()), "ways": found}


def _mean(value: float) -> float:
    total = torch.tensor([value], dtype=torch.float64)
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["mlp_2.5M", "resnet18_cifar", "mlp_25M"], choices=MODELS)
    parser.add_argument("--ways", nargs="+", default=[EAGER, BLOCKS, WHOLE], choices=[EAGER, BLOCKS, WHOLE])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Measure and print."""
    options = options_parser().parse_args()
    about = {"benchmark": "in_backward", **machine(), "rounds": options.rounds}
    print(f"torch {about['torch']}, gloo, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    ways = [way for way in options.ways if way == EAGER or shutil.which("c++")]
    if ways != options.ways:
        about["left_out"] = {"compiled models": "torch.compile needs a C++ compiler here"}
        print("compiled models are left out: torch.compile needs a C++ compiler here\n")
    rows: list[dict[str, Any]] = []
    for model in options.models:
        found = in_workers(options.workers, measure, model, ways, options.rounds)
        for way, rounds in found["ways"].items():
            row = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            about_row = {"workers": options.workers, "model": model, "parameters": found["parameters"], "name": way}
            rows.append({**about_row, **row, "rounds": rounds})
    print(tables.in_backward(rows), end="\n\n", flush=True)
    if options.json:
        tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
