"""What a training step costs beside its computation: every algorithm and transport here, and others beside them.

    python benchmarks/step_overhead.py                     # 2, 4 and 8 gloo workers, three models
    python benchmarks/step_overhead.py --workers 8 --models mlp_25M --rounds 9 --json overhead.json
    python benchmarks/step_overhead.py --quick             # seconds, to see that it works; figures mean nothing

All contenders live in the same worker processes and take turns, a few steps each, in an order that rotates from round
to round, so that a slow moment of the machine falls on all of them. Where they do not fit into memory together they
are split, and each part has the references with it. A step is timed on the slowest worker, until nothing of it is
under way. ``communication`` is a step less the ``compute only`` step of the same round, in wall time and in CPU time
(user and system, all threads); ratios are of the same round, and medians over rounds are reported. ``bare exchange``
is the floor: the same bytes in the same chunks, receives posted first, one fused pass; ``in-place average`` is that
pass alone, at the speed of memory. On one machine workers share its cores and memory: the figures say what
communication costs a processor, nothing about networks (see slow_network.py).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from suite import tables, turns
from suite.contender import Loss
from suite.contenders import COMPUTE_ONLY, DDP, FLOOR, MEMORY, all_contenders, left_out
from suite.workers import as_program, in_workers, machine

INPUTS, CLASSES, BATCH = 64, 10, 4
REFERENCES = (COMPUTE_ONLY, FLOOR, MEMORY, DDP)
_USABLE = 0.8
"""Share of the free memory that contenders may fill."""


def perceptron(parameters: float) -> nn.Module:
    """Return a perceptron of eight hidden layers with about ``parameters`` parameters."""
    width = int((parameters / 8) ** 0.5)
    layers: list[nn.Module] = [nn.Linear(INPUTS, width), nn.ReLU()]
    for _ in range(8):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def resnet() -> nn.Module:
    """Return the ResNet-18 for small images."""
    from sgp_core.tasks.images.models.resnet18_cifar import Resnet18Cifar

    return Resnet18Cifar().build((3, 16, 16), CLASSES)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp_0.1M": (lambda: perceptron(0.1e6), (INPUTS,)),
    "mlp_2.5M": (lambda: perceptron(2.5e6), (INPUTS,)),
    "resnet18_cifar": (resnet, (3, 16, 16)),
    "mlp_25M": (lambda: perceptron(25e6), (INPUTS,)),
}
"""How each is made, and the shape of one input: small, so that communication can be seen beside the computation."""


def measure(names: list[str], model: str, rounds: int, steps: int) -> dict[str, Any]:
    """Run contenders in this group of workers; return the size of the model, and what each took."""
    make, shape = MODELS[model]
    torch.manual_seed(dist.get_rank())
    inputs, targets = torch.randn(BATCH, *shape), torch.randint(CLASSES, (BATCH,))
    loss: Loss = lambda module: nn.functional.cross_entropy(module(inputs), targets)  # noqa: E731
    entries = all_contenders()
    series = turns.take_turns({name: entries[name] for name in names}, make, loss, rounds, steps)
    return {"parameters": sum(p.numel() for p in make().parameters()), "series": series}


def rows_of(workers: int, model: str, parameters: int, series: turns.Series) -> list[dict[str, Any]]:
    """Return one row per contender: medians over rounds, and of ratios taken round by round."""
    compute, floor, memory, ddp = (series[name] for name in REFERENCES)
    rows = []
    for name, mine in series.items():
        if "refused" in mine:
            continue
        row: dict[str, Any] = {"workers": workers, "model": model, "parameters": parameters, "name": name}
        row["compute_ms"] = statistics.median(compute["seconds"]) * 1e3
        row["bytes_per_step"] = mine["bytes_per_step"]
        row["extra_memory"] = (mine["memory_bytes"] - compute["memory_bytes"]) / (4 * parameters)
        for key, step, communication in (
            ("seconds", "step_ms", "communication"),
            ("cpu_seconds", "cpu_ms", "communication_cpu"),
        ):
            cost = _less(mine[key], compute[key])
            row[step] = statistics.median(mine[key]) * 1e3
            row[f"{communication}_ms"] = statistics.median(cost) * 1e3 if name != COMPUTE_ONLY else None
            for reference, what in ((floor, "floor"), (memory, "average"), (ddp, "ddp")):
                ratios = [a / b for a, b in zip(cost, _less(reference[key], compute[key]), strict=True) if b > 0]
                usable = ratios and name != COMPUTE_ONLY
                row[f"{communication}_vs_{what}"] = statistics.median(ratios) if usable else None
        row["step_vs_ddp"] = statistics.median(a / b for a, b in zip(mine["seconds"], ddp["seconds"], strict=True))
        row["rounds"] = {"seconds": mine["seconds"], "cpu_seconds": mine["cpu_seconds"]}
        rows.append(row)
    return rows


def _less(values: list[float], others: list[float]) -> list[float]:
    return [a - b for a, b in zip(values, others, strict=True)]


def cell(
    workers: int, model: str, rounds: int, steps: int, names: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Measure contenders with one model and number of workers, in as few groups of processes as fit.

    Returns:
        A row per contender, the references among them, and who cannot take part and why.
    """
    size = 4.0 * sum(p.numel() for p in MODELS[model][0]().parameters())
    chosen = {name: entry for name, entry in all_contenders().items() if name in names or name in REFERENCES}
    batches = turns.in_batches(chosen, REFERENCES, size * workers, _USABLE * turns.available_bytes())
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for batch in batches:
        found = in_workers(workers, measure, list(batch), model, rounds, steps)
        refused |= {name: mine["refused"] for name, mine in found["series"].items() if "refused" in mine}
        known = {row["name"] for row in rows}  # references again, which served this batch
        rows += [r for r in rows_of(workers, model, found["parameters"], found["series"]) if r["name"] not in known]
    order = list(all_contenders())
    return sorted(rows, key=lambda row: order.index(row["name"])), refused


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--models", nargs="+", default=["mlp_2.5M", "resnet18_cifar", "mlp_25M"], choices=MODELS)
    parser.add_argument(
        "--contenders",
        nargs="+",
        default=list(all_contenders()),
        choices=all_contenders(),
        metavar="NAME",
        help="beside references",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps per contender and round")
    parser.add_argument("--quick", action="store_true", help="2 workers, a tiny model, 2 rounds of 2 steps")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Measure and print."""
    options = options_parser().parse_args()
    if options.quick:
        options.workers, options.models, options.rounds, options.steps = [2], ["mlp_0.1M"], 2, 2
    about = {"benchmark": "step_overhead", **machine(), "rounds": options.rounds, "steps_per_round": options.steps}
    print(f"torch {about['torch']}, gloo, {about['cores']} cores, load {about['load']}; {__doc__}")
    absent = left_out()
    for name, why in absent.items():
        print(f"{name} is left out: {why}\n")
    rows: list[dict[str, Any]] = []
    for workers in options.workers:
        for model in options.models:
            new, refused = cell(workers, model, options.rounds, options.steps, options.contenders)
            for name in refused.keys() - absent.keys():
                print(f"{name} is left out: {refused[name]}\n")
            absent |= refused
            print(tables.overhead(new), end="\n\n", flush=True)
            rows += new
    if options.json:
        tables.save(options.json, {**about, "left_out": absent}, rows)


if __name__ == "__main__":
    as_program()
    main()
