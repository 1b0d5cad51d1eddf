"""Where does gossip pay? Seconds to a score of a real task, by algorithm, period, network and stragglers.

    python benchmarks/map.py --data FOLDER --json runs/benchmarks/map.json          # predicted; an hour of training
    sudo .venv/bin/python benchmarks/map.py --data FOLDER --measure 60 --json runs/benchmarks/map.json
    python benchmarks/map.py --task verses                                           # needs no data

Three things are put together. **Steps to the score**: every rule, with every number of steps between messages, is
trained once by virtual workers (``cluster=simulator``, exactly what processes compute), at several learning rates, of
which the best counts. Networks do not change that, but for the asynchronous rule, which is trained anew for each.
**Seconds of a step**: the virtual clock's, for every network and for stragglers. **Real trainings**, for as many cells
as ``--measure`` minutes allow: real gloo workers in network namespaces behind shaped links train the same experiment
for as many steps as the virtual ones needed, and are evaluated then. A step's computation is emulated: it lasts as long
as it is said to (suite/map/real.py), for all workers share this machine.

In the second part, two regions of workers have a thin link between them, and graphs compete.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from suite import tables
from suite.map.cells import CELLS, REGIONS, Cell, experiment_of, prediction
from suite.map.curves import Curve, Curves, Training
from suite.map.real import train_all
from suite.map.tasks import ASYNCHRONOUS, EVERYWHERE, GRAPHS, RULES, TASKS, Rule, Task
from suite.network import SlowNetwork, Unavailable
from suite.workers import as_program, in_workers, machine

DDP = "ddp"
"""torch's DistributedDataParallel: predicted only."""
MEASURED = (
    Cell(200.0, 0.0, "none"),
    REGIONS,
    Cell(1000.0, 0.0, "stalls"),
    Cell(200.0, 5.0, "none"),
    Cell(50.0, 0.0, "none"),
    Cell(1000.0, 5.0, "none"),
)
"""Networks that a machine of two cores can be, in the order in which they are measured."""
MEASURED_RULES = ("allreduce", "sgp", "osgp", "sgp-8", "local_sgd-8", "diloco-32")
MEASURED_BETWEEN_REGIONS = ("allreduce", "osgp", "sgp/regions", "osgp/regions")
Row = dict[str, Any]


def rows_of(task: Task, cell: Cell, curves: dict[str, Curve], rules: Iterable[Rule]) -> list[Row]:
    """Return a row for each rule in a cell, predicted; beside AllReduce one for torch's DDP, which learns the same."""
    rows = []
    for rule in rules:
        curve = curves[rule.name]
        names = {"name": rule.name, "family": rule.family, "period": rule.period}
        rows.append(row_of(task, cell, curve, names, follows_time=rule.follows_time))
        if rule.family == "allreduce":
            rows.append(row_of(task, cell, curve, {"name": DDP, "family": DDP, "period": 1}, ddp=True))
    return rows


def row_of(task: Task, cell: Cell, curve: Curve, names: Row, *, follows_time: bool = False, ddp: bool = False) -> Row:
    """Return the row of one rule."""
    cost = prediction(curve.spec, cell, task.step_ms, ddp=ddp)
    steps = curve.steps_to(task.target)
    seconds = None if steps is None else steps * cost["step_ms"] / 1e3
    if follows_time:
        seconds = curve.seconds_to(task.target)
    rate = experiment_of(curve.spec).optimizer["lr"]
    return {**cell.facts(), **names, "rate": rate, "steps": steps, "seconds": seconds, **cost}


def asynchronous_rows(task: Task, curves: Curves, cells: Sequence[Cell]) -> list[Row]:
    """Return the rows of the rule whose curve depends on the network, at the first of the learning rates."""
    rate = task.rates[0]
    marks = [f"-{cell.mbit:g}-{cell.delay_ms:g}-{cell.stragglers}" for cell in cells]
    wanted = [
        Training(ASYNCHRONOUS, rate, cell.words(task.step_ms), mark) for cell, mark in zip(cells, marks, strict=True)
    ]
    found = zip(cells, curves.train(wanted), strict=True)
    return [row for cell, curve in found for row in rows_of(task, cell, {ASYNCHRONOUS.name: curve}, [ASYNCHRONOUS])]


def measure(task: Task, workers: int, cell: Cell, rows: list[Row], curves: dict[str, Curve], until: float) -> None:
    """Let real workers train what ``rows`` predict, the quickest first, as long as time is left; add what they took."""
    wanted, chosen, left = [], [], until - time.monotonic() - 20
    for row in sorted(rows, key=lambda row: row["seconds"]):
        if (left := left - row["seconds"] - 5) < 0:
            break
        spec = curves[row["name"]].spec
        computation = cell.computation(task.step_ms).options()
        wanted.append({"experiment": spec["experiment"], "steps": row["steps"], "computation": computation})
        chosen.append(row)
    if not wanted:
        return
    regions = 1 if cell.thin_mbit is None else 2
    with SlowNetwork(workers, cell.mbit, cell.delay_ms, regions=regions, thin_mbit=cell.thin_mbit) as network:
        found = in_workers(workers, train_all, wanted, task.score, namespaces=network.namespaces)
    for row, took in zip(chosen, found, strict=True):
        row["measured"] = took
        print(line(row), flush=True)


def cell_of(row: Row) -> Cell:
    """Return the cell that a row is of."""
    return Cell(row["mbit"], row["delay_ms"], row["stragglers"], row.get("thin_mbit"))


def line(row: Row) -> str:
    """Return a row in words."""
    thin = f", {row['thin_mbit']:g} between regions" if "thin_mbit" in row else ""
    where = f"{row['mbit']:g} Mbit/s{thin}, {row['delay_ms']:g} ms, stragglers {row['stragglers']}"
    if row["seconds"] is None:
        return f"{where:<48} {row['name']:<26} not at the score"
    said = f"{where:<48} {row['name']:<26} {row['steps']:>4} steps, predicted {row['seconds']:7.1f} s"
    if (it := row.get("measured")) is None:
        return said
    share = f"ratio {row['seconds'] / it['seconds']:.3f}, late in {it['late']:.0%} of steps"
    return f"{said}, measured {it['seconds']:7.1f} s ({share}), score then {it['score']:.3f}"


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="multi30k", choices=TASKS)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--data", type=Path, help="dataset.path of the task")
    parser.add_argument("--runs", type=Path, default=Path("runs/map"), help="where trainings are kept")
    parser.add_argument("--measure", type=float, default=0.0, metavar="MINUTES", help="of real trainings, about")
    parser.add_argument("--rules", nargs="+", metavar="NAME", help="only these, such as sgp-8")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Train, predict, measure and print."""
    options = options_parser().parse_args()
    task = TASKS[options.task]
    if task.needs_data and options.data is None:
        sys.exit(f"--task {options.task} needs --data FOLDER")
    rules = [rule for rule in RULES if options.rules is None or rule.name in options.rules]
    graphs = [rule for rule in GRAPHS if options.rules is None or rule.name in options.rules]
    about = {"benchmark": "map", **machine(), "task": options.task, "workers": options.workers}
    about |= {"score": task.score, "target": task.target, "step_ms": task.step_ms, "evaluated_every": task.every}
    data = None if options.data is None else options.data.resolve()
    curves = Curves(options.task, task, options.workers, data, options.runs)
    best = curves.best(rules, task.rates) | curves.best(graphs, task.rates[:1])
    rows = [row for cell in CELLS for row in rows_of(task, cell, best, rules)]
    if options.rules is None or ASYNCHRONOUS.name in options.rules:
        rows += asynchronous_rows(task, curves, [cell for cell in CELLS if cell.delay_ms == 0])
    in_regions = [*(rule for rule in rules if rule.name in EVERYWHERE), *graphs]
    rows += rows_of(task, REGIONS, best, in_regions)
    for row in rows:
        print(line(row))
    until = time.monotonic() + 60 * options.measure
    try:
        for cell in MEASURED if options.measure else ():
            names = MEASURED_BETWEEN_REGIONS if cell == REGIONS else MEASURED_RULES
            there = [row for row in rows if cell == cell_of(row) and row["seconds"] and row["name"] in names]
            measure(task, options.workers, cell, there, best, until)
    except Unavailable as reason:
        sys.exit(str(reason))
    finally:
        if options.json:
            tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
