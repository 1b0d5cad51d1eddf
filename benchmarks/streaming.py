"""What streaming is worth on a thin link: seconds to a loss of a real task, beside DiLoCo, AllReduce and overlap SGP.

    sudo .venv/bin/python benchmarks/streaming.py --json runs/benchmarks/streaming.json     # 8 minutes on two cores
    python benchmarks/streaming.py --predict                                                # needs no root

A small translation model (1.7 MB, the verses of this package) is trained by four workers behind links of 50 Mbit/s.
**Steps to the loss**: every contender is trained by virtual workers (``cluster=simulator``, exactly what processes
compute) at two learning rates, of which the better counts; what has been trained is kept in ``--runs``. **Seconds**:
real gloo workers in network namespaces behind shaped links then train for as many steps, one contender after another,
in rotating order, and are evaluated. A step's computation is emulated: it lasts as long as it is said to
(suite/map/real.py), for all workers share this machine. ``predicted`` is the virtual clock's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from suite import tables, turns
from suite.map.cells import Cell, experiment_of, prediction
from suite.map.curves import Curve, Curves
from suite.map.real import train_all
from suite.map.tasks import TASKS, Rule, Task
from suite.network import SlowNetwork, Unavailable
from suite.workers import as_program, in_workers, machine

_GRAPH = "topology=one_peer_exponential"
_OUTER = ("algorithm=local_sgd", "algorithm.period=0", "outer=diloco", "outer.tau=16")
_STREAM = (*_OUTER, "outer.fragments=4", "outer.overlap=2")
RULES = (
    Rule("allreduce", 1, ("algorithm=allreduce",)),
    Rule("osgp", 1, ("algorithm=osgp", _GRAPH)),
    Rule("diloco", 1, _OUTER, slower=0.5),
    Rule("streaming", 1, _STREAM, slower=0.5),
    Rule("streaming-int4", 1, (*_STREAM, "outer.compression=int4"), slower=0.5),
)
"""Who takes part. Fragments of a quarter leave every fourth step, and travel during two."""
RATES = {"verses": (0.004, 0.008)}
"""Learning rates that are tried, where they are others than the map's; DiLoCo has half of them."""
COLUMNS: list[tables.Column] = [
    ("contender", lambda row: row["name"]),
    ("rate", tables.number("rate", 4)),
    ("steps to the loss", tables.number("steps", 0)),
    ("ms a step", tables.number("step_ms", 0)),
    ("predicted", tables.number("predicted_ms", 0)),
    ("computing, %", tables.number("utilisation", 0, 100)),
    ("kB sent a step", tables.number("bytes_per_step", 0, 1e-3)),
    ("seconds to the loss", tables.number("seconds", 1)),
    ("speed-up", tables.number("speedup", 2)),
    ("loss then", tables.number("score", 3)),
]
Row = dict[str, Any]


def predicted(task: Task, cell: Cell, curves: dict[str, Curve], rules: list[Rule]) -> list[Row]:
    """Return a row for each contender that comes to the loss: its steps, and what the clock says of them."""
    rows = []
    for rule in rules:
        curve = curves[rule.name]
        steps = curve.steps_to(task.target)
        if steps is None:
            print(f"{rule.name} does not come to a loss of {task.target:g} in {task.most_steps} steps", flush=True)
            continue
        cost = prediction(curve.spec, cell, task.step_ms)
        rows.append(
            {
                "name": rule.name,
                "rate": experiment_of(curve.spec).optimizer["lr"],
                "steps": steps,
                "predicted_ms": cost["step_ms"],
                "predicted_seconds": steps * cost["step_ms"] / 1e3,
                "predicted_bytes_per_step": cost["bytes_per_step"],
            }
        )
    return rows


def measure(task: Task, workers: int, cell: Cell, rows: list[Row], curves: dict[str, Curve], rounds: int) -> None:
    """Let real workers train as many steps as each row says, in turns; add the medians of what they took."""
    computation = cell.computation(task.step_ms).options()
    wanted = {
        row["name"]: {
            "experiment": curves[row["name"]].spec["experiment"],
            "steps": row["steps"],
            "computation": computation,
        }
        for row in rows
    }
    order = [name for number in range(rounds) for name in turns.rotated(list(wanted), number)]
    with SlowNetwork(workers, cell.mbit, cell.delay_ms) as network:
        found = in_workers(
            workers, train_all, [wanted[name] for name in order], task.score, namespaces=network.namespaces
        )
    for row in rows:
        mine = [took for name, took in zip(order, found, strict=True) if name == row["name"]]
        row.update({key: statistics.median(took[key] for took in mine) for key in mine[0]})
        row["rounds"] = mine
    reference = next((row["seconds"] for row in rows if row["name"] == "allreduce"), None)
    for row in rows:
        row["speedup"] = None if reference is None else reference / row["seconds"]


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="verses", choices=TASKS)
    parser.add_argument("--data", type=Path, help="dataset.path of the task, where it needs one")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--mbit", type=float, default=50.0, help="rate of every link, each way")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="one way, added to every frame")
    parser.add_argument("--step-ms", type=float, default=100.0, help="computation of a step, emulated")
    parser.add_argument("--contenders", nargs="+", default=[rule.name for rule in RULES], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--predict", action="store_true", help="train virtual workers only, and let no real ones")
    parser.add_argument("--runs", type=Path, default=Path("runs/streaming"), help="where virtual trainings are kept")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Train, measure and print."""
    options = options_parser().parse_args()
    rules = [rule for rule in RULES if rule.name in options.contenders]
    if len(rules) < len(options.contenders):
        sys.exit(f"--contenders are of {', '.join(repr(rule.name) for rule in RULES)}")
    task = task_of(options)
    cell = Cell(options.mbit, options.delay_ms, "none")
    about = {"benchmark": "streaming", **machine(), "task": options.task, "workers": options.workers, **cell.facts()}
    about |= {"score": task.score, "target": task.target, "step_ms": task.step_ms, "rounds": options.rounds}
    print(f"torch {about['torch']}, gloo, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    data = None if options.data is None else options.data.resolve()
    curves = Curves(options.task, task, options.workers, data, options.runs).best(rules, task.rates)
    rows = predicted(task, cell, curves, rules)
    try:
        if not options.predict:
            measure(task, options.workers, cell, rows, curves, options.rounds)
    except Unavailable as reason:
        sys.exit(str(reason))
    title = f"**{options.workers} workers, {options.mbit:g} Mbit/s, {task.step_ms:g} ms of computation a step**"
    print(f"{title}: {options.task} to a {task.score} of {task.target:g}\n\n{tables.markdown(rows, COLUMNS, labels=1)}")
    if options.json:
        tables.save(options.json, about, rows)


def task_of(options: argparse.Namespace) -> Task:
    """Return the task, with the computation of a step that the command line says."""
    task = TASKS[options.task]
    if task.needs_data and options.data is None:
        sys.exit(f"--task {options.task} needs --data FOLDER")
    return replace(task, step_ms=options.step_ms, rates=RATES.get(options.task, task.rates))


if __name__ == "__main__":
    as_program()
    main()
