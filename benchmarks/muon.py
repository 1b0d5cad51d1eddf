"""Muon against AdamW inside DiLoCo, with 1 to 8 workers and the same number of tokens: the table of MuLoCo in small.

    python benchmarks/muon.py                           # about 25 minutes on two idle cores
    python benchmarks/muon.py --workers 1 8 --seeds 0   # a part of it

Therien et al. 2025 (arXiv 2505.23725) train 150 million parameters and more; here a language model with 0.3 million
learns 0.43 million tokens of the documentation of Python: ``experiment=muloco_150m_small`` and ``diloco_150m_small``
with fewer layers, virtual workers, 16 windows of 64 tokens a step shared by all workers, 420 steps, an outer step every
30. "none" is one worker without an outer optimizer: data parallel training. A worker's weight decay is divided by the
number of workers, as there; the outer optimizer is the same for all lines with one.

The learning rate is chosen for each line and optimizer from --rates and --muon-rates, by one run of another seed. Bits
per byte are those of the averaged model on the validation text at the end. Runs that --runs holds are not repeated, and
interrupted ones go on. Further words are overrides for ``sgp-train``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

from suite import tables
from suite.training_runs import Words, best_rates, over_seeds, run_all, span, write_page
from suite.workers import as_program, machine

BATCH = 16
"""Windows of a step, over all workers."""
STEPS = 420
OUTER = ("outer.tau=30", "outer.lr=0.7", "outer.momentum=0.6")
NO_OUTER = ("outer=none", "~outer.tau", "~outer.lr", "~outer.momentum")
DECAY = {"adamw": 0.001, "muon": 0.01}
"""Of one worker: MuLoCo's for its smallest model."""
PRESETS = {"adamw": "diloco_150m_small", "muon": "muloco_150m_small"}
SMALL = (
    "dataset.vocabulary=1024",
    "model.layers=2",
    "model.width=96",
    "model.heads=3",
    "model.hidden=256",
    "cluster=simulator",
    "cluster.threads_per_worker=1",
    "evaluation.every_steps=null",
    "tracker=none",
)


class Cell(NamedTuple):
    """A line of the table and an optimizer."""

    workers: int
    outer: bool
    optimizer: str


COLUMNS: list[tables.Column] = [
    ("workers", lambda row: str(row["workers"])),
    ("outer", lambda row: row["outer"]),
    ("AdamW, bits per byte", tables.number("adamw", 4)),
    ("of the seeds", lambda row: span({"of_seeds": row["adamw_seeds"]})),
    ("lr", lambda row: f"{row['adamw_lr']:g}"),
    ("Muon, bits per byte", tables.number("muon", 4)),
    ("of the seeds", lambda row: span({"of_seeds": row["muon_seeds"]})),
    ("lr", lambda row: f"{row['muon_lr']:g}"),
    ("Muon - AdamW", lambda row: f"{row['muon'] - row['adamw']:+.4f}"),
    ("AdamW over none, %", lambda row: _over(row, "adamw")),
    ("Muon over none, %", lambda row: _over(row, "muon")),
]


def words_of(cell: Cell, rate: float, seed: int, options: argparse.Namespace) -> Words:
    """Return what ``sgp-train`` is told of a run."""
    return (
        f"experiment={PRESETS[cell.optimizer]}",
        *SMALL,
        *(OUTER if cell.outer else NO_OUTER),
        f"cluster.workers={cell.workers}",
        f"training.batch_size={BATCH // cell.workers}",
        f"training.max_steps={options.steps}",
        f"optimizer.lr={rate:g}",
        f"optimizer.weight_decay={DECAY[cell.optimizer] / cell.workers:g}",
        f"seed={seed}",
        f"runs_dir={options.runs}",
        *options.overrides,
    )


def measure(options: argparse.Namespace) -> list[tables.Row]:
    """Choose learning rates, run every seed; return a row for each number of workers."""
    lines = [(1, False), *((workers, True) for workers in options.workers)]
    cells = [Cell(*line, optimizer) for line in lines for optimizer in PRESETS]
    rates = {"adamw": options.rates, "muon": options.muon_rates}

    def words(cell: Cell, rate: float, seed: int) -> Words:
        return words_of(cell, rate, seed, options)

    chosen = best_rates(cells, lambda cell: rates[cell.optimizer], words, options.at_once)
    found = run_all([words(cell, chosen[cell], seed) for cell in cells for seed in options.seeds], options.at_once)
    count = len(options.seeds)
    scores = {cell: over_seeds(found[at * count :][:count], ["bits_per_byte"]) for at, cell in enumerate(cells)}
    rows: list[tables.Row] = []
    for workers, outer in lines:
        row: tables.Row = {"workers": workers, "outer": "DiLoCo" if outer else "none", "seeds": list(options.seeds)}
        for optimizer in PRESETS:
            cell = Cell(workers, outer, optimizer)
            row[optimizer] = scores[cell]["bits_per_byte"]
            row[f"{optimizer}_seeds"] = scores[cell]["of_seeds"]
            row[f"{optimizer}_lr"] = chosen[cell]
        rows.append(row)
    for row in rows:
        row["none"] = {optimizer: rows[0][optimizer] for optimizer in PRESETS}
    return rows


def _over(row: tables.Row, optimizer: str) -> str:
    return f"{100 * (row[optimizer] / row['none'][optimizer] - 1):+.2f}"


def verdict(rows: list[tables.Row]) -> list[str]:
    """Return sentences on what MuLoCo claims: Muon is better with any number of workers, and suffers less from more."""
    with_outer = [row for row in rows if row["outer"] != "none"]
    better = [str(row["workers"]) for row in with_outer if row["muon"] < row["adamw"]]
    every = [str(row["workers"]) for row in with_outer if max(row["muon_seeds"]) < min(row["adamw_seeds"])]
    most = with_outer[-1]
    losses = {name: most[name] / most["none"][name] - 1 for name in PRESETS}
    less = "less" if losses["muon"] < losses["adamw"] else "not less"
    return [
        f"Muon has fewer bits per byte than AdamW with {', '.join(better) or 'no number of'} workers, and in every seed"
        f" with {', '.join(every) or 'none'}.",
        f"Against its own data parallel line, Muon loses {less} than AdamW with {most['workers']} workers:"
        f" {100 * losses['muon']:+.2f} % and {100 * losses['adamw']:+.2f} %.",
    ]


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="they have to divide 16")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.001, 0.002, 0.004, 0.008], help="of AdamW")
    parser.add_argument("--muon-rates", type=float, nargs="+", default=[0.01, 0.02, 0.04, 0.08])
    parser.add_argument("--at-once", type=int, default=len(os.sched_getaffinity(0)), help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/muon"))
    parser.add_argument("--json", type=Path, default=Path("docs/results/muon.json"), help="the table goes beside it")
    return parser


def main() -> None:
    """Run what is missing, and write the table."""
    options, overrides = options_parser().parse_known_args()
    options.overrides = overrides
    about = {"benchmark": "muon", **machine(), "steps": options.steps, "tokens": options.steps * BATCH * 64}
    rows = measure(options)
    about |= {"rates": options.rates, "muon_rates": options.muon_rates, "verdict": verdict(rows)}
    tables.save(options.json, about, rows)
    found = f"{tables.markdown(rows, COLUMNS, labels=2)}\n\n{' '.join(about['verdict'])}"
    write_page(options.json.with_suffix(".md"), "muon", found)


if __name__ == "__main__":
    as_program()
    main()
