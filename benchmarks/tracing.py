"""What it costs to record a timeline: the same workers and the same training, with ``debug=timeline`` and without.

    python benchmarks/tracing.py                                       # 4 workers, 15 rounds, a few minutes
    python benchmarks/tracing.py --contenders "sgp, p2p" --compute-ms 100 --json tracing.json

Steps are those of ``sgp-train`` (the same code), of a network for the digits that is padded to 2.5 million parameters,
so that a message is 10 MB; computation is emulated by sleeping, 60 ms a step. In each round every contender takes two
turns of as many steps, one recorded and one not, in an order that changes from round to round. The steps before a
recording begins are not counted; writing the file at its end is. A turn is timed on the slowest worker. ``overhead``
is the time of a recorded step over that of one that is not, less 1, of the same round: the median over rounds. Most of
that is chance; ``CPU ms more`` is what recording makes a worker's processor do beside, a step, and ``/ step`` the same
as a share of the step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

import sgp_core
from sgp_core.tasks.base import Batch
from sgp_core.timeline import SETTLING, Timeline, now
from sgp_core.training.config import TrainingConfig
from sgp_core.training.step import TrainingStep
from suite import tables, turns
from suite.paced import Clock, PacedModel, Problem
from suite.workers import as_program, in_workers, machine

CONTENDERS = {
    "sgp, p2p": ("sgp", "p2p"),
    "sgp, shared_memory": ("sgp", "shared_memory"),
    "osgp, p2p": ("osgp", "p2p"),
    "osgp, shared_memory": ("osgp", "shared_memory"),
}
"""Algorithm and transport by name."""

BATCH = 32


class Traced:
    """One algorithm's training, any steps of which can be recorded.

    Args:
        algorithm: its name.
        transport: how models travel.
        parameters: of the model.
        compute_s: how long a step computes.
    """

    def __init__(self, algorithm: str, transport: str, parameters: int, compute_s: float) -> None:
        self.rank = dist.get_rank()
        torch.manual_seed(0)
        self.clock = Clock(compute_s)
        self.model = PacedModel(parameters, self.clock)
        self.problem = Problem(self.rank, dist.get_world_size(), BATCH)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.gossip = sgp_core.Gossip(
            self.model,
            self.optimizer,
            algorithm=sgp_core.build_algorithm(algorithm),
            topology=sgp_core.build_topology("one_peer_exponential", world_size=dist.get_world_size()),
            transport=transport,
        )
        self.step = 0

    def turn(self, steps: int, trace: Path | None) -> dict[str, float]:
        """Take ``steps`` steps, recorded if there is a file to write; return what one took."""
        timeline = None if trace is None else Timeline(trace, self.rank, steps)
        take = TrainingStep(self.model, self.optimizer, self.gossip, cross_entropy, TrainingConfig(), timeline)
        self.gossip.record(timeline)
        for _ in range(SETTLING):
            self._advance(take, timeline)
        dist.barrier()
        cpu, start = time.process_time(), time.perf_counter()
        for _ in range(steps):
            self._advance(take, timeline)
        self.gossip.finish()
        seconds = torch.tensor([(time.perf_counter() - start) / steps], dtype=torch.float64)
        spent = torch.tensor([(time.process_time() - cpu) / steps], dtype=torch.float64)
        dist.all_reduce(seconds, op=dist.ReduceOp.MAX)
        dist.all_reduce(spent)
        return {"seconds": float(seconds), "cpu_seconds": float(spent) / dist.get_world_size()}

    def _advance(self, take: TrainingStep, timeline: Timeline | None) -> None:
        """What the training loop does with a step and a timeline."""
        if timeline is not None:
            timeline.begin_step(self.step)
        began = now()
        inputs, targets = self.problem.batch()
        if timeline is not None:
            timeline.span("data", began, now())
        self.clock.start()
        take(Batch((inputs,), targets))
        self.step += 1
        if timeline is not None:
            timeline.end_step(began)


def measure(names: list[str], parameters: int, compute_s: float, rounds: int, steps: int) -> dict[str, Any]:
    """Return by contender what steps took, ``off`` and ``on``, a list by round each, and the ``bytes`` of a trace."""
    built = {name: Traced(*CONTENDERS[name], parameters, compute_s) for name in names}
    found: dict[str, Any] = {name: {"off": [], "on": []} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, f"rank-{dist.get_rank()}.json")
        for contender in built.values():
            contender.turn(1, trace)
        for number in range(rounds):
            for name in turns.rotated(names, number):
                for what in turns.rotated(["off", "on"], number):
                    found[name][what].append(built[name].turn(steps, trace if what == "on" else None))
                found[name]["bytes"] = trace.stat().st_size
    return found


def rows_of(found: dict[str, Any], workers: int, steps: int) -> list[dict[str, Any]]:
    """Return one row per contender: medians over rounds."""
    rows = []
    for name, mine in found.items():
        pairs = list(zip(mine["off"], mine["on"], strict=True))
        more = statistics.median(on["cpu_seconds"] - off["cpu_seconds"] for off, on in pairs)
        plain = statistics.median(off["seconds"] for off in mine["off"])
        rows.append(
            {
                "name": name,
                "workers": workers,
                "off_ms": plain * 1e3,
                "on_ms": statistics.median(on["seconds"] for on in mine["on"]) * 1e3,
                "overhead": statistics.median(on["seconds"] / off["seconds"] - 1 for off, on in pairs),
                "cpu_off_ms": statistics.median(off["cpu_seconds"] for off in mine["off"]) * 1e3,
                "cpu_more_ms": more * 1e3,
                "cpu_share": more / plain,
                "trace_bytes": mine["bytes"] / steps,
                "rounds": {what: mine[what] for what in ("off", "on")},
            }
        )
    return rows


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--parameters", type=int, default=2_500_000)
    parser.add_argument("--compute-ms", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20, help="per contender, round and turn")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Measure and print."""
    options = options_parser().parse_args()
    about = {
        "benchmark": "tracing",
        **machine(),
        **{key: getattr(options, key) for key in ("workers", "parameters", "compute_ms", "rounds", "steps")},
    }
    print(f"torch {about['torch']}, gloo, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    arguments = (options.contenders, options.parameters, options.compute_ms / 1e3, options.rounds, options.steps)
    rows = rows_of(in_workers(options.workers, measure, *arguments), options.workers, options.steps)
    print(tables.tracing(rows), flush=True)
    if options.json:
        tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
