"""What slow and stalling workers cost all workers, under AllReduce and gossip, beside a model of their waits.

    python benchmarks/stragglers.py                                      # 8 workers, 5 rounds
    python benchmarks/stragglers.py --scenarios permanent --rounds 1 --steps 40 --json stragglers.json

Computation is emulated by sleeping, so that workers may outnumber cores; messages are small (1 MB) and go over
loopback. Scenarios: ``none``, all alike; ``permanent``, worker 3 takes four times as long in every step; ``random``,
in each step, with probability 1/4, one random worker takes five times as long. All contenders live in the same
workers and take turns in rotating order, with the same delays; nothing is under way when the next begins. Times are
per step, from the end of step ``--warm`` on: at first even bounded waiting lets quick workers run ahead. ``model`` is
the same schedule with a free network (suite/maxplus.py), over the same steps; in the long run, over 2,000. ``others
keep`` compares the slowest of the workers that are not slow themselves with its own rate, that of ``no messages``.
``age`` is how many steps old what a worker used was, under asynchronous algorithms: the mean, and the oldest.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from suite import maxplus, tables, turns
from suite.contender import Contender
from suite.contenders import Entry, gossip, never_waiting
from suite.workers import as_program, in_workers, machine

SLOW_WORKER, SLOWER = 3, 4.0
STALL, PROBABILITY = 5.0, 0.25
ALONE = "no messages"
_LONG_RUN = 2000
SCENARIOS = {
    "none": ("no stragglers", 16),
    "permanent": (f"worker {SLOW_WORKER} takes {SLOWER:g} times as long, always", 24),
    "random": (f"in a step, with probability {PROBABILITY:g}, one random worker takes {STALL:g} times as long", 64),
}
"""In words, and how many steps a turn has: stalls are rare, so it takes more of them."""


@dataclass(frozen=True)
class Candidate:
    """Who takes part, and who waits for whom in it."""

    entry: Entry
    model: maxplus.Model


CONTENDERS = {
    ALONE: Candidate(Entry(Contender), maxplus.alone),
    "allreduce": Candidate(gossip("allreduce"), maxplus.barrier),
    "sgp": Candidate(gossip("sgp"), maxplus.gossip()),
    "osgp, overlap_steps=1": Candidate(gossip("osgp"), maxplus.gossip_ahead),
    **{
        f"osgp, overlap_steps={tau}": Candidate(gossip("osgp", overlap_steps=tau), maxplus.gossip(tau))
        for tau in (2, 4)
    },
    **{name: Candidate(entry, maxplus.alone) for name, entry in never_waiting().items()},
}
"""A new contender is a line here; for one that never waits the model is ``maxplus.alone``."""


def durations(scenario: str, workers: int, steps: int, compute_s: float, seed: int) -> list[list[float]]:
    """Return the seconds of computation, ``[steps][workers]``: the same wherever it is asked."""
    source = random.Random(seed)
    found = [[compute_s] * workers for _ in range(steps)]
    for step in found:
        if scenario == "permanent":
            step[SLOW_WORKER % workers] *= SLOWER
        elif scenario == "random" and source.random() < PROBABILITY:
            step[source.randrange(workers)] *= STALL
    return found


def measure(scenario: str, names: list[str], compute_s: float, rounds: int, steps: int) -> dict[str, Any]:
    """Run the contenders in turns.

    Returns:
        By name: ``times``, when each worker ended each step, ``[rounds][steps][workers]``; ``ages``, of each worker the
        mean and the largest age of what it used, None where workers march together.
    """
    rank, workers = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(rank)
    inputs, targets = torch.randn(4, 64), torch.randint(10, (4,))
    built = {name: CONTENDERS[name].entry.build(_model()) for name in names}
    found: dict[str, list[maxplus.Times]] = {name: [] for name in names}
    for contender in built.values():  # connections, and memory touched for the first time
        for _ in range(turns.WARM_UP):
            contender.step(lambda model: nn.functional.cross_entropy(model(inputs), targets))
        contender.settle()
    for number in range(rounds):
        delays = durations(scenario, workers, steps, compute_s, seed=number)
        for name in turns.rotated(names, number):
            found[name].append(_turn(built[name], [step[rank] for step in delays], inputs, targets))
    return {name: {"times": times, "ages": _ages(built[name])} for name, times in found.items()}


def _ages(contender: Contender) -> list[tuple[float, float] | None]:
    ages: list[tuple[float, float] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(ages, getattr(contender, "ages", None))
    return ages


def _turn(contender: Contender, sleeps: list[float], inputs: torch.Tensor, targets: torch.Tensor) -> maxplus.Times:
    dist.barrier()
    start = time.perf_counter()
    ends = []
    for sleep in sleeps:
        until = time.perf_counter() + sleep

        def loss(model: nn.Module, until: float = until) -> torch.Tensor:
            value = nn.functional.cross_entropy(model(inputs), targets)
            time.sleep(max(0.0, until - time.perf_counter()))
            return value

        contender.step(loss)
        ends.append(time.perf_counter() - start)
    contender.settle()
    mine = torch.tensor(ends, dtype=torch.float64)
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, mine)
    return torch.stack(gathered, dim=1).tolist()


def _model() -> nn.Module:
    """Return a quarter of a million parameters: 1 MB."""
    return nn.Sequential(nn.Linear(64, 460), nn.ReLU(), nn.Linear(460, 460), nn.ReLU(), nn.Linear(460, 10))


def per_step(times: maxplus.Times, warm: int) -> list[float]:
    """Return the seconds a step takes each worker, from the end of step ``warm`` on."""
    return [(end - start) / (len(times) - warm) for start, end in zip(times[warm - 1], times[-1], strict=True)]


def rows_of(scenario: str, found: dict[str, Any], compute_s: float, warm: int) -> list[dict[str, Any]]:
    """Return one row per contender: medians over rounds."""
    rows = []
    own = [per_step(times, warm) for times in found[ALONE]["times"]]
    for name, mine in found.items():
        rounds, ages = mine["times"], [age for age in mine["ages"] if age]
        model = CONTENDERS[name].model
        steps, workers = len(rounds[0]), len(rounds[0][0])
        taken = [per_step(times, warm) for times in rounds]
        schedules = [durations(scenario, workers, steps, compute_s, seed) for seed in range(len(rounds))]
        expected = [per_step(model(schedule), warm) for schedule in schedules]
        long_run = model(durations(scenario, workers, _LONG_RUN, compute_s, seed=0))
        kept = [
            min(alone[i] / with_others[i] for i in range(workers) if i != SLOW_WORKER % workers)
            for alone, with_others in zip(own, taken, strict=True)
        ]
        row: dict[str, Any] = {"scenario": SCENARIOS[scenario][0], "workers": workers, "name": name}
        for what, of in (("slowest", max), ("mean", statistics.fmean), ("quickest", min)):
            row[f"{what}_ms"] = statistics.median(of(values) for values in taken) * 1e3
            row[f"model_{what}_ms"] = statistics.median(of(values) for values in expected) * 1e3
        row["model_long_run_ms"] = statistics.fmean(per_step(long_run, _LONG_RUN // 2)) * 1e3
        row["others_keep"] = statistics.median(kept) if scenario == "permanent" else None
        row["mean_age"] = statistics.fmean(mean for mean, _ in ages) if ages else None
        row["oldest"] = max(most for _, most in ages) if ages else None
        row["rounds"] = {"per_step_s": taken}
        rows.append(row)
    return rows


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--compute-ms", type=float, default=60.0, help="of a step of a worker that is not slow")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="per contender and round; else by scenario")
    parser.add_argument("--warm", type=int, default=8, help="steps at the start of a turn that are not counted")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Measure and print."""
    parser = options_parser()
    options = parser.parse_args()
    steps = {name: options.steps or SCENARIOS[name][1] for name in options.scenarios}
    if not 0 < options.warm < min(steps.values()):
        parser.error("--warm must be between 1 and --steps - 1")
    names = list(dict.fromkeys([ALONE, *options.contenders]))
    about = {
        "benchmark": "stragglers",
        **machine(),
        "steps": steps,
        **{key: getattr(options, key) for key in ("workers", "compute_ms", "rounds", "warm")},
    }
    print(f"torch {about['torch']}, gloo, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    rows: list[dict[str, Any]] = []
    compute_s = options.compute_ms / 1e3
    for scenario in options.scenarios:
        arguments = (scenario, names, compute_s, options.rounds, steps[scenario])
        found = in_workers(options.workers, measure, *arguments)
        new = rows_of(scenario, found, compute_s, options.warm)
        print(tables.stragglers(new), end="\n\n", flush=True)
        rows += new
    if options.json:
        tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
