"""Asynchronous SGP over links that lose and delay messages, with shares sent again and without.

    python benchmarks/lossy_links.py                   # eight workers, the digits, three seeds; five minutes
    python benchmarks/lossy_links.py --drops 0.2 --seeds 1 --steps 60

Real workers train over messages; a step sleeps ``--compute-ms``. Of the messages, acknowledgements included, ``lost``
never arrive, and half of the others are late by 1 to ``--delay`` steps. All workers meet every ``--meet`` steps, as for
an evaluation. Each has a part of the images drawn by chance (``iid``) or one or two of the digits (``label``:
images sorted by label, cut in eight). ``accuracy`` is of the averaged model, sum of x / sum of w, ``worst`` of the
worst worker's own. The defects are what is missing at the end, after a meeting, of all weights, and of all numerators
where the start and every update are counted: |sum of x - start - updates| / |start|. ``traffic`` counts bytes, relative
to links without faults. Medians of the seeds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sgp_core
from sgp_core.asynchronous.link_faults import LinkFaults
from suite import tables
from suite.paced import Problem
from suite.workers import as_program, in_workers, machine

BATCH, HIDDEN = 32, 128
PARTITIONS = ("iid", "label")

COLUMNS: list[tables.Column] = [
    ("data", lambda row: row["partition"]),
    ("lost", lambda row: f"{row['drop']:.0%}"),
    ("late", lambda row: f"up to {row['delay']} steps" if row["delay"] else "no"),
    ("sent again", lambda row: row["again"]),
    ("accuracy %", tables.number("accuracy", 1, 100)),
    ("worst worker %", tables.number("worst", 1, 100)),
    ("distance", tables.number("distance", 3)),
    ("defect of weights", lambda row: "0" if row["weight_defect"] < 1e-12 else f"{row['weight_defect']:.2f}"),
    ("defect of numerators", lambda row: f"{row['numerator_defect']:.1g}"),
    ("mean age, steps", tables.number("age", 1)),
    ("traffic", tables.number("traffic", 2)),
]


class Updates:
    """The sum of what the optimizer adds to a model, in float64. To be made before ``Gossip``."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._model = model
        self.start = flatten(model)
        self.total = torch.zeros_like(self.start)
        optimizer.register_step_pre_hook(lambda *_: self._add(-1.0))
        optimizer.register_step_post_hook(lambda *_: self._add(1.0))

    def _add(self, sign: float) -> None:
        self.total.add_(flatten(self._model), alpha=sign)


def flatten(model: nn.Module) -> Tensor:
    """Return all parameters in float64."""
    return torch.cat([p.detach().double().reshape(-1) for p in model.parameters()])


def problem_of(partition: str, rank: int, workers: int, seed: int) -> Problem:
    """Return a worker's part of the digits."""
    problem = Problem(rank, workers, BATCH)
    if partition == "label":
        parts = [Problem(other, workers, BATCH) for other in range(workers)]
        images, labels = (torch.cat(of) for of in zip(*(part.examples for part in parts), strict=True))
        mine = labels.argsort(stable=True).tensor_split(workers)[rank]
        problem.examples = images[mine], labels[mine]
    problem.restart(workers * seed + rank)
    return problem


def train(case: dict[str, Any], options: dict[str, Any], seed: int) -> dict[str, float]:
    """Train once in every worker; return what rank 0 knows in the end."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    problem = problem_of(case["partition"], rank, workers, seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=options["lr"])
    updates = Updates(model, optimizer)
    late = {"delay": 0.5, "delay_steps": case["delay"]} if case["delay"] else {}
    gossip = sgp_core.Gossip(
        model,
        optimizer,
        algorithm=sgp_core.build_algorithm("asgp", retransmit=case["again"] == "yes"),
        topology=sgp_core.build_topology("one_peer_exponential", world_size=workers),
        transport="p2p",
        link_faults=LinkFaults(drop=case["drop"], seed=seed, **late),
    )
    for step in range(options["steps"]):
        problem.loss(model).backward()
        time.sleep(options["compute_ms"] / 1e3)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % options["meet"] == 0:
            gossip.finish()
    gossip.finish()
    distance, weight, age = gossip.consensus_distance(), gossip.push_sum_weight, gossip.staleness.mean_steps
    own = accuracy(model, problem)
    sums = torch.tensor([weight, age, float(gossip.bytes_sent)], dtype=torch.float64)
    x = weight * flatten(model)
    left = x - updates.start - updates.total
    worst = torch.tensor([own])
    for total in (sums, x, left):
        dist.all_reduce(total)
    dist.all_reduce(worst, op=dist.ReduceOp.MIN)
    gossip.close()
    nn.utils.vector_to_parameters((x / sums[0]).float(), model.parameters())
    return {
        "accuracy": accuracy(model, problem),
        "worst": float(worst),
        "distance": distance,
        "weight_defect": abs(1 - float(sums[0]) / workers),
        "numerator_defect": float(left.norm() / (workers * updates.start.norm())),
        "age": float(sums[1]) / workers,
        "bytes": float(sums[2]),
    }


@torch.no_grad()
def accuracy(model: nn.Module, problem: Problem) -> float:
    """Return the share of validation images that the model knows."""
    images, labels = problem.validation
    return float((model(images).argmax(1) == labels).float().mean())


def measure(cases: list[dict[str, Any]], options: dict[str, Any]) -> list[list[dict[str, float]]]:
    """Train in every case with every seed, in one group of workers; for :func:`in_workers`."""
    return [[train(case, options, seed) for seed in range(options["seeds"])] for case in cases]


def cases_of(partitions: list[str], drops: list[float], delay: int) -> list[dict[str, Any]]:
    """Return links without faults, then all losses with and without retransmission."""
    cases = []
    for partition in partitions:
        cases.append({"partition": partition, "drop": 0.0, "delay": 0, "again": "no"})
        cases += [
            {"partition": partition, "drop": drop, "delay": delay, "again": again}
            for drop in drops
            for again in ("yes", "no")
        ]
    return cases


def rows_of(cases: list[dict[str, Any]], found: list[list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Return a row for each case."""
    rows = []
    for case, runs in zip(cases, found, strict=True):
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        rows.append({**case, **medians, "runs": runs})
    plain = {row["partition"]: row["bytes"] for row in rows if not row["delay"]}
    for row in rows:
        row["traffic"] = row["bytes"] / plain[row["partition"]]
    return rows


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--partitions", nargs="+", default=list(PARTITIONS), choices=PARTITIONS)
    parser.add_argument("--drops", type=float, nargs="+", default=[0.0, 0.01, 0.05, 0.2])
    parser.add_argument("--delay", type=int, default=10, help="the most steps by which a message is late")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--meet", type=int, default=60, help="steps between meetings")
    parser.add_argument("--compute-ms", type=float, default=10.0)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Measure and print."""
    options = options_parser().parse_args()
    cases = cases_of(options.partitions, options.drops, options.delay)
    chosen = {key: getattr(options, key) for key in ("workers", "steps", "meet", "compute_ms", "lr", "seeds")}
    about = {"benchmark": "lossy_links", **machine(), **chosen}
    rows = rows_of(cases, in_workers(options.workers, measure, cases, chosen))
    print(f"torch {about['torch']}, gloo, {about['cores']} cores, load {about['load']}; {__doc__}")
    print(tables.markdown(rows, COLUMNS, labels=4))
    if options.json:
        tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
