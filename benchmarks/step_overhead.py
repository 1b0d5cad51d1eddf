"""What a training step costs beside its computation: torch DDP and every algorithm here, in one run.

    python benchmarks/step_overhead.py                       # 2, 4 and 8 gloo workers, three model sizes
    python benchmarks/step_overhead.py --workers 4 --parameters 2.5 --rounds 9 --json overhead.json

All contenders live in the same worker processes and take turns, a few steps each, in an order that rotates from
round to round, so that a slow moment of the machine falls on all of them. Reported are medians over rounds of the
slowest worker's time. ``overhead`` is the step less the same step without any communication. On one machine the
workers share its cores and memory: the figures say what communication costs in CPU time, nothing about networks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import sgp_core

INPUTS, CLASSES, BATCH = 64, 10, 16
COMPUTE_ONLY, DDP = "compute only", "torch DDP"
CONTENDERS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "allreduce": ("allreduce", {}, None),
    "sgp": ("sgp", {}, None),
    "dpsgd": ("dpsgd", {}, None),
    "local_sgd (period 12)": ("local_sgd", {"period": 12}, None),
    "slowmo over sgp (tau 12)": ("sgp", {}, "slowmo"),
    "diloco over local_sgd (tau 50)": ("local_sgd", {"period": 0}, "diloco"),
}


class Contender:
    """A model, its optimizer, and one way of keeping workers together."""

    def __init__(self, name: str, parameters: float) -> None:
        self.model: nn.Module = make_model(parameters)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.gossip: sgp_core.Gossip | None = None
        if name == DDP:
            self.model = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
        elif name != COMPUTE_ONLY:
            algorithm, options, outer = CONTENDERS[name]
            rule = sgp_core.build_algorithm(algorithm, **options)
            if outer:
                rule = sgp_core.build_outer(outer, rule)
            topology = sgp_core.build_topology("one_peer_exponential", world_size=dist.get_world_size())
            self.gossip = sgp_core.Gossip(self.model, self.optimizer, algorithm=rule, topology=topology)

    def steps(self, count: int, inputs: Tensor, targets: Tensor) -> float:
        """Take ``count`` steps; return seconds per step on the slowest worker."""
        dist.barrier()
        start = time.perf_counter()
        for _ in range(count):
            nn.functional.cross_entropy(self.model(inputs), targets).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        slowest = torch.tensor([(time.perf_counter() - start) / count], dtype=torch.float64)
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        return float(slowest)


def make_model(parameters: float) -> nn.Sequential:
    """Return a perceptron of eight hidden layers with about ``parameters`` million parameters."""
    width = int((parameters * 1e6 / 8) ** 0.5)
    layers: list[nn.Module] = [nn.Linear(INPUTS, width), nn.ReLU()]
    for _ in range(8):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def bytes_per_step(contender: Contender, name: str, sent: int, steps: int) -> float:
    """Return bytes one worker sends per step; for DDP those of a ring AllReduce of its gradients."""
    if contender.gossip is not None:
        return (contender.gossip.bytes_sent - sent) / steps
    size = sum(p.numel() * p.element_size() for p in contender.model.parameters())
    n = dist.get_world_size()
    return 2 * (n - 1) / n * size if name == DDP else 0.0


def measure(parameters: float, rounds: int, steps: int) -> list[dict[str, Any]]:
    """Run every contender in this group of workers; return one row each."""
    torch.manual_seed(dist.get_rank())
    inputs, targets = torch.randn(BATCH, INPUTS), torch.randint(CLASSES, (BATCH,))
    names = [COMPUTE_ONLY, DDP, *CONTENDERS]
    contenders = {name: Contender(name, parameters) for name in names}
    for contender in contenders.values():
        contender.steps(3, inputs, targets)
    sent = {name: c.gossip.bytes_sent if c.gossip else 0 for name, c in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name].append(contenders[name].steps(steps, inputs, targets))
    median = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
    ddp_overhead = median[DDP] - median[COMPUTE_ONLY]
    return [
        {
            "workers": dist.get_world_size(),
            "parameters": sum(p.numel() for p in contenders[name].model.parameters()),
            "name": name,
            "step_ms": median[name],
            "compute_ms": median[COMPUTE_ONLY],
            "overhead_ms": median[name] - median[COMPUTE_ONLY],
            "bytes_per_step": bytes_per_step(contenders[name], name, sent[name], rounds * steps),
            "step_vs_ddp": statistics.median(a / b for a, b in zip(seconds[name], seconds[DDP], strict=True)),
            "overhead_vs_ddp": (median[name] - median[COMPUTE_ONLY]) / ddp_overhead if ddp_overhead > 0 else None,
            "rounds": rounds,
            "steps_per_round": steps,
        }
        for name in names
    ]


def _worker(rank: int, world_size: int, folder: str, task: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder, "store")), world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=timedelta(minutes=5))
    result = task(*arguments)
    if rank == 0:
        Path(folder, "result.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


def in_workers(world_size: int, task: Callable[..., Any], *arguments: Any) -> Any:
    """Run ``task(*arguments)`` in ``world_size`` gloo workers on this machine; return rank 0's result."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_worker, (world_size, folder, task, arguments), nprocs=world_size)
        return json.loads(Path(folder, "result.json").read_text())


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as one table."""
    lines = [
        "| workers | parameters | algorithm | step ms | compute ms | overhead ms | MB sent | step / DDP"
        " | overhead / DDP |",
        "|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ratio = "-" if row["overhead_vs_ddp"] is None else f"{row['overhead_vs_ddp']:.2f}"
        lines.append(
            f"| {row['workers']} | {row['parameters'] / 1e6:.1f} M | {row['name']} | {row['step_ms']:.1f} "
            f"| {row['compute_ms']:.1f} | {row['overhead_ms']:.1f} | {row['bytes_per_step'] / 1e6:.2f} "
            f"| {row['step_vs_ddp']:.2f} | {ratio} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--parameters", type=float, nargs="+", default=[0.3, 2.5, 11.0], help="millions")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12, help="steps per contender and round")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for world_size in options.workers:
        for parameters in options.parameters:
            rows += in_workers(world_size, measure, parameters, options.rounds, options.steps)
    print(f"torch {torch.__version__}, gloo, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {__doc__}")
    print(markdown(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
