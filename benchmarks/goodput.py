"""Goodput when workers fail: batches that end up in the model, per second, relative to the undisturbed run.

    python benchmarks/goodput.py --minutes 45 --json runs/benchmarks/goodput.json
    python benchmarks/goodput.py --minutes 45 dataset=image_folder dataset.path=DIR model=cnn    # CIFAR-10
    python benchmarks/goodput.py --contenders allreduce --every-s 15 --minutes 4
    python benchmarks/goodput.py --torchft PYTHON       # a Python with torchft, in an environment of its own

Eight workers on this machine; one failure every 15, 30 and 60 seconds, and none. A failure is SIGKILL or SIGSTOP, half
and half, to a random worker at a random moment: one list by the seed for all contenders, inflicted from outside. Who is
stopped is never continued.

``elastic sgp``: ``sgp-train cluster.elastic=true``; survivors go on, and the launcher replaces who died. ``allreduce``:
whenever the run has failed, the same command starts it again from its newest checkpoint; for several intervals between
checkpoints, of which the best counts; a worker that says nothing is given up after 10 s. ``torchft``: a lighthouse, a
replica group of one process for each worker, gloo; who has ended, or has been silent for 5 s, is started again; on the
same model, data and batches. Further words are overrides for ``sgp-train``.

The clock starts when all workers train. Counted is what is in the model when it stops: under AllReduce the step it has
reached, under torchft the batches it has committed, under gossip all steps but the last of each worker that died,
whose update had not left yet. All workers share the cores, so a worker that starts takes time from the others.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite import failures, steps, survivors, tables
from suite.launches import Launches, Unexpected, looks
from suite.survivors import Survivor
from suite.workers import as_program, machine

CONTENDERS = ("elastic sgp", "allreduce", "torchft")
_STARTS_S = 30.0
"""What a measurement takes before its clock starts, about."""
_LEAST_S = 20.0

Build = Callable[[Launches, Path], Survivor]


def contestants(names: list[str], options: argparse.Namespace, words: list[str]) -> dict[str, Build]:
    """Return how to build each line of the table; AllReduce has one for each interval between checkpoints."""
    count, python = options.workers, options.torchft
    found: dict[str, Build] = {}
    if "elastic sgp" in names:
        found["elastic sgp"] = lambda launches, folder: survivors.Elastic(launches, folder, words, count)
    for every in options.checkpoint_every if "allreduce" in names else []:
        found[f"allreduce, checkpoint every {every} steps"] = lambda launches, folder, every=every: survivors.Restarted(
            launches, folder, words, count, every
        )  # type: ignore[misc]
    if "torchft" in names:
        found["torchft"] = lambda launches, folder: survivors.TorchFT(launches, folder, words, count, python)
    return found


def measure(survivor: Survivor, planned: list[failures.Failure], duration_s: float) -> dict[str, Any]:
    """Let one contestant train while workers fail; return what became of it."""
    survivor.start()
    try:
        survivor.wait_until_settled()
        begin, waiting, died = time.time(), list(planned), set()
        missed = 0
        for _ in looks(duration_s):
            survivor.tend()
            if waiting and time.time() >= begin + waiting[0].at_s:
                failure, pid = waiting[0], survivor.pid(waiting.pop(0).rank)
                if failure.inflict(pid):
                    died.add(pid)
                else:
                    missed += 1
        end = time.time()
        batches = survivor.batches(begin, end, {pid for pid in died if pid is not None})
    finally:
        survivor.stop()
    found = steps.read_steps(survivor.folder)
    lived = [of for of in found if of.pid not in died and of.begin <= begin and of.end >= end - duration_s / 4]
    return {
        "seconds": end - begin,
        "batches": batches,
        "failures": len(planned),
        "missed": missed,
        "restarts": survivor.restarts,
        "longest_pause_s": max((steps.longest_pause(of, begin, end) for of in lived), default=None),
    }


def rows_of(measured: list[dict[str, Any]], examples: int) -> list[tables.Row]:
    """Return a row for each measurement: its rate, and that relative to the same contestant's undisturbed one.

    The undisturbed rate of AllReduce is its best over intervals between checkpoints: what checkpoints cost is lost too.
    """

    def contender(row: dict[str, Any]) -> str:
        return str(row["name"]).split(",")[0]

    rates = [row["batches"] * examples / row["seconds"] for row in measured]
    whole: dict[str, float] = {}
    for row, rate in zip(measured, rates, strict=True):
        if row["every_s"] is None:
            whole[contender(row)] = max(whole.get(contender(row), 0.0), rate)
    return [
        {**row, "rate": rate, "goodput": rate / whole[contender(row)] if whole.get(contender(row)) else None}
        for row, rate in zip(measured, rates, strict=True)
    ]


def batch_size(words: list[str]) -> int:
    """Return the examples of a batch under these overrides."""
    from launcher.config.compose import compose
    from launcher.config.make_plan import make_plans

    return make_plans(compose(words))[0].experiment.training.batch_size


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=45.0, help="for everything, starts included, about")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--every-s", type=float, nargs="+", default=[15.0, 30.0, 60.0], help="seconds between failures")
    parser.add_argument("--how", nargs="+", default=list(failures.SIGNALS), choices=failures.SIGNALS)
    parser.add_argument("--checkpoint-every", type=int, nargs="+", default=[10, 50], help="steps; of allreduce")
    parser.add_argument("--torchft", type=Path, default=Path(sys.executable), help="a Python that has torchft")
    parser.add_argument("--seed", type=int, default=0, help="of the list of failures")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Measure and print."""
    parser = options_parser()
    options, words = parser.parse_known_args()
    words = words or ["dataset=digits", "model=mlp"]
    left_out: dict[str, str] = {}
    version, why = survivors.torchft_version(options.torchft) if "torchft" in options.contenders else (None, "")
    if why:
        left_out["torchft"] = why
    names = [name for name in options.contenders if name not in left_out]
    builders = contestants(names, options, words)
    intervals = [None, *sorted(options.every_s, reverse=True)]
    duration_s = options.minutes * 60 / max(1, len(builders) * len(intervals)) - _STARTS_S
    if duration_s < _LEAST_S:
        parser.error(f"--minutes is too short: each of {len(builders) * len(intervals)} runs would train for no time")
    about = {"benchmark": "goodput", **machine(), "rounds": 1, "workers": options.workers, "settings": words}
    about |= {"seed": options.seed, "seconds_each": round(duration_s), "torchft": version, "left_out": left_out}
    print(f"torch {about['torch']}, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    print(f"{len(builders) * len(intervals)} runs of {duration_s:.0f} s each, and their starts", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="sgp-goodput-"))
    launches, measured, numbers = Launches(folder), list[dict[str, Any]](), itertools.count()
    try:
        for every_s in intervals:
            planned = failures.every(every_s, duration_s, options.workers, options.seed, options.how)
            for name, build in builders.items():
                if name in left_out:
                    continue
                try:
                    found = measure(build(launches, folder / f"run-{next(numbers)}"), planned, duration_s)
                except Unexpected as error:
                    left_out[name] = str(error)
                    print(f"{name} is left out from here on: {error}", flush=True)
                    continue
                measured.append({"name": name, "workers": options.workers, "every_s": every_s, **found})
                print(f"{name}, one failure every {every_s} s: {found}", flush=True)
    finally:
        launches.kill()
        shutil.rmtree(folder, ignore_errors=True)
    rows = rows_of(measured, batch_size(words))
    print(tables.goodput(rows), end="\n\n")
    if options.json:
        tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
