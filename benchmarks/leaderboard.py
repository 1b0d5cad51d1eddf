"""Which algorithm for which data: accuracy of every algorithm whose workers march together, the more their data differ.

    python benchmarks/leaderboard.py                                  # 16 workers, alpha 10, 1 and 0.1
    python benchmarks/leaderboard.py --only dpsgd qg_dsgdm --seeds 3

In the simulator, on the digits: a perceptron with one hidden layer of 64, 1,150 training examples dealt out to the
workers by Dirichlet proportions, batch 32, weight decay 1e-4, a short run so that no algorithm has time to fit
everything: its first 5 % warm the learning rate up, and at 75 % and 90 % it drops by ten. The learning rate is
chosen for each line and alpha from --rates, by the accuracy of the averaged model on 287 validation examples, the mean
of --tuning-seeds runs. Then other seeds train anew and are scored on the 360 test examples. A seed decides the shares,
the order of examples and the first model, alike for all algorithms, so they can be compared seed by seed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from suite import tables
from suite.leaderboard.contestants import MOMENTUM, Contestant, all_contestants
from suite.leaderboard.run import Setting, run
from suite.workers import as_program, machine

RATES = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
_FIRST_TUNING_SEED = 1000
"""Far from those that are reported."""
_SCORES = ("averaged", "mean", "worst", "consensus_distance", "bytes_per_step")
_CLAIM = 0.1
"""The heterogeneity at which quasi-global momentum is said to beat the optimizer's own."""

Scored = dict[str, Any]


def measure(
    pool: Executor,
    contestants: Sequence[Contestant],
    setting: Setting,
    alphas: Sequence[float],
    rates: Sequence[float],
    tuning_seeds: int,
    seeds: int,
) -> list[dict[str, Any]]:
    """Choose every learning rate, run every seed; return one row per contestant and alpha."""
    cells = [(contestant, alpha) for contestant in contestants for alpha in alphas]
    tried = [(cell, rate) for cell in cells for rate in rates]
    of_seed = [_FIRST_TUNING_SEED + seed for seed in range(tuning_seeds)]
    tuning = [(*cell, rate, seed, "validation") for cell, rate in tried for seed in of_seed]
    found = _all(pool, setting, tuning, "choosing learning rates")
    mean = {
        key: statistics.fmean(score["averaged"] for score in scores)
        for key, scores in zip(tried, _grouped(found, tuning_seeds), strict=True)
    }
    chosen = {cell: max(rates, key=lambda rate: (mean[cell, rate], -rate)) for cell in cells}
    final = [(*cell, chosen[cell], seed, "test") for cell in cells for seed in range(seeds)]
    scored = _all(pool, setting, final, "reporting")
    return [_row(cell, chosen[cell], scores) for cell, scores in zip(cells, _grouped(scored, seeds), strict=True)]


def _all(pool: Executor, setting: Setting, runs: Sequence[tuple[Any, ...]], what: str) -> list[Scored]:
    began = time.perf_counter()
    args = [(contestant, setting, *rest) for contestant, *rest in runs]
    found = list(pool.map(_run, args, chunksize=8))
    print(f"{what}: {len(runs)} runs in {time.perf_counter() - began:.0f} s", flush=True)
    return found


def _run(arguments: tuple[Any, ...]) -> Scored:
    return run(*arguments)


def _grouped(found: Sequence[Scored], size: int) -> Iterable[Sequence[Scored]]:
    return (found[begin : begin + size] for begin in range(0, len(found), size))


def _row(cell: tuple[Contestant, float], rate: float, scores: Sequence[Scored]) -> dict[str, Any]:
    contestant, alpha = cell
    return {
        "name": contestant.name,
        "graph": contestant.graph,
        "momentum": contestant.momentum_is,
        "alpha": alpha,
        "lr": rate,
        **{key: statistics.fmean(score[key] for score in scores) for key in _SCORES},
        "spread": statistics.stdev(score["averaged"] for score in scores) if len(scores) > 1 else 0.0,
        "seeds": {key: [score[key] for score in scores] for key in ("averaged", "worst")},
    }


def claim(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how much better quasi-global momentum is than the optimizer's, on a ring, seed by seed.

    Returns:
        For the averaged and the worst model: ``mean``, ``error`` (standard error of the mean) and how many seeds it is
        better in, ``wins``, of ``seeds``; None if one of the two did not take part.
    """

    def of(name: str, momentum: str) -> dict[str, Any] | None:
        wanted = (name, "ring", momentum, _CLAIM)
        return next((row for row in rows if (row["name"], row["graph"], row["momentum"], row["alpha"]) == wanted), None)

    ours, plain = of("qg_dsgdm", "its own"), of("dpsgd", f"{MOMENTUM:g}")
    if ours is None or plain is None:
        return None
    found: dict[str, Any] = {"alpha": _CLAIM}
    for key in ("averaged", "worst"):
        gains = [a - b for a, b in zip(ours["seeds"][key], plain["seeds"][key], strict=True)]
        found[key] = {
            "mean": statistics.fmean(gains),
            "error": statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0,
            "wins": sum(gain > 0 for gain in gains),
            "seeds": len(gains),
        }
    return found


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="algorithms and outers that take part; else all")
    parser.add_argument("--workers", type=int, default=Setting.workers)
    parser.add_argument("--alphas", type=float, nargs="+", default=[10.0, 1.0, 0.1])
    parser.add_argument("--steps", type=int, default=Setting.steps)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--tuning-seeds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=10, help="runs behind each figure")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main(pool_of: Callable[[int], Executor] | None = None) -> None:
    """Measure and print."""
    options = options_parser().parse_args()
    setting = Setting(options.workers, options.steps)
    contestants = [
        one
        for one in all_contestants(options.workers)
        if not options.only or {one.algorithm, one.outer} & set(options.only)
    ]
    about = {
        "benchmark": "leaderboard",
        **machine(),
        **{key: getattr(options, key) for key in ("workers", "alphas", "steps", "rates", "tuning_seeds", "seeds")},
    }
    print(f"torch {about['torch']}, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    began = time.perf_counter()
    with (pool_of or _processes)(options.processes) as pool:
        rows = measure(pool, contestants, setting, options.alphas, options.rates, options.tuning_seeds, options.seeds)
    about["seconds"] = round(time.perf_counter() - began)
    about["claim"] = claim(rows)
    print(tables.leaderboard(rows))
    if options.json:
        tables.save(options.json, about, rows)


def _processes(count: int) -> Executor:
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("forkserver"))


if __name__ == "__main__":
    as_program()
    main()
