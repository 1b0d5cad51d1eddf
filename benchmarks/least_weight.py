"""What ``least_weight`` of asynchronous SGP does: PushSum weights and losses, in virtual time.

    python benchmarks/least_weight.py                   # eight workers, the digits; two minutes
    python benchmarks/least_weight.py --steps 100 --seeds 1

The rule is the library's, run by its simulator step by step in the order in which steps of these lengths would end: a
step takes 1, give or take 5 % (``even``); worker 3 takes four times as long (``slow``); or of all steps one in twenty
takes twenty times as long, as where a core has too much to do (``stalls``). A run ends when a quick worker would have
taken ``--steps`` of them. Weights are those of the second half. ``loss`` is the validation loss, at the end, of the
averaged model, ``workers'`` the mean of those of the workers' own models; medians of the seeds.
"""

from __future__ import annotations

import argparse
import random
import statistics
from typing import Any

import torch
from torch import Tensor, nn

import sgp_core
from sgp_core.simulator.asynchronous import run_in_order
from sgp_core.simulator.trajectory import Trajectory
from suite import tables
from suite.paced import Problem

WORKERS, BATCH, HIDDEN = 8, 32, 128
SLOW_WORKER, SLOWER = 3, 4.0
STALL, PROBABILITY = 20.0, 0.05
SCENARIOS = ("even", "slow", "stalls")
SHAPES = [(HIDDEN, 64), (HIDDEN,), (10, HIDDEN), (10,)]

COLUMNS: list[tables.Column] = [
    ("scenario", lambda row: row["scenario"]),
    ("least_weight", lambda row: f"{row['least_weight']:g}"),
    ("weights: least", tables.number("least", 3)),
    ("mean of the least", tables.number("mean_least", 2)),
    ("most", tables.number("most", 2)),
    ("slow worker's", tables.number("slow", 2)),
    ("distance", tables.number("distance", 3)),
    ("loss", tables.number("loss", 3)),
    ("workers'", tables.number("own", 3)),
]


def order_of(scenario: str, steps: int, seed: int) -> list[int]:
    """Return whose step ends next, again and again."""
    dice, ends = random.Random(seed), []
    for rank in range(WORKERS):
        time = 0.0
        while time < steps:
            length = dice.uniform(0.95, 1.05)
            if scenario == "slow" and rank == SLOW_WORKER:
                length *= SLOWER
            if scenario == "stalls" and dice.random() < PROBABILITY:
                length *= STALL
            time += length
            ends.append((time, rank))
    return [rank for time, rank in sorted(ends) if time <= steps]


class Digits:
    """The digits, a part for each worker, and a network of one hidden layer as a vector."""

    def __init__(self, seed: int) -> None:
        self.problems = [Problem(rank, WORKERS, BATCH) for rank in range(WORKERS)]
        for rank, problem in enumerate(self.problems):
            problem.restart(WORKERS * seed + rank)
        generator = torch.Generator().manual_seed(seed)
        scales = [(shape[-1] if len(shape) > 1 else 1e9) ** -0.5 for shape in SHAPES]
        parts = [torch.randn(shape, generator=generator) * s for shape, s in zip(SHAPES, scales, strict=True)]
        self.start = torch.cat([part.reshape(-1) for part in parts])

    def logits(self, z: Tensor, images: Tensor) -> Tensor:
        """Return what the network ``z`` says."""
        sizes = [torch.Size(shape).numel() for shape in SHAPES]
        first, b, second, c = (part.view(shape) for part, shape in zip(z.split(sizes), SHAPES, strict=True))
        return nn.functional.linear(torch.relu(nn.functional.linear(images, first, b)), second, c)

    def gradient(self, z: Tensor, rank: int, step: int) -> Tensor:
        """Return that of the worker's next batch."""
        leaf = z.clone().requires_grad_()
        images, labels = self.problems[rank].batch()
        return torch.autograd.grad(nn.functional.cross_entropy(self.logits(leaf, images), labels), leaf)[0]

    def loss(self, z: Tensor) -> float:
        """Return that of the validation images."""
        images, labels = self.problems[0].validation
        return float(nn.functional.cross_entropy(self.logits(z, images), labels))


def run(scenario: str, least_weight: float, steps: int, lr: float, seed: int) -> dict[str, float]:
    """Train once; return what the table shows."""
    digits = Digits(seed)
    algorithm = sgp_core.build_algorithm("asgp", least_weight=least_weight)
    topology = sgp_core.build_topology("one_peer_exponential", world_size=WORKERS)
    trajectory: Trajectory = run_in_order(
        algorithm,
        topology,
        digits.start.expand(WORKERS, -1),
        digits.gradient,
        order_of(scenario, steps, seed),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr),
        record_every=WORKERS,
    )
    late = slice(len(trajectory.w) // 2, None)
    weights, models = trajectory.w[late], trajectory.z[-1]
    in_flight = trajectory.x_in_flight[-1]
    mean = ((trajectory.w[-1].unsqueeze(1) * models).sum(0) + in_flight) / WORKERS
    return {
        "least": float(weights.min()),
        "mean_least": float(weights.min(1).values.mean()),
        "most": float(weights.max()),
        "slow": float(weights[:, SLOW_WORKER].mean()),
        "distance": float(trajectory.consensus_distance[late].mean()),
        "loss": digits.loss(mean.float()),
        "own": statistics.fmean(digits.loss(model) for model in models),
    }


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--values", type=float, nargs="+", default=[0.0, 0.1, 0.25, 0.5, 0.75])
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=5)
    return parser


def main() -> None:
    """Measure and print."""
    options = options_parser().parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for scenario in options.scenarios:
        for value in options.values:
            runs = [run(scenario, value, options.steps, options.lr, seed) for seed in range(options.seeds)]
            medians = {key: statistics.median(found[key] for found in runs) for key in runs[0]}
            rows.append({"scenario": scenario, "least_weight": value, **medians})
    print(f"{__doc__}\n{tables.markdown(rows, COLUMNS, labels=1)}")


if __name__ == "__main__":
    main()
