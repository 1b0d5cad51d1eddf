"""A language model by each way to communicate, with the same number of tokens: bits per byte and bytes sent.

    python benchmarks/language_small.py                                    # three seeds of everything
    python benchmarks/language_small.py --only SGP "DiLoCo (H=30)" --seeds 0
    python benchmarks/language_small.py --rates 0.001 0.002 0.004          # choose each line's learning rate first

Runs ``experiment=language_small`` of ``conf/experiment``, 10 million parameters and four workers of this machine, with
the overrides of each line. That takes two and a half hours on two cores; docs/results/language_small.md says with which
further overrides for ``sgp-train``, those of a smaller model, its table was made. All lines take the same steps, with
batches of the same size. Without --rates every line has the learning rate of the preset; with them, the best in one run
of another seed. Runs that --runs holds are not repeated, and interrupted ones go on.

Bits per byte are those of the averaged model on the validation text at the end. Bytes are those that a worker sent in
all, and the most in one step: that of a link that has to carry a step's messages before the next. Milliseconds a step
are those of this machine, whose workers share memory; they say nothing about a network.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from suite import tables
from suite.training_runs import Words, best_rates, over_seeds, run_all, span, write_page
from suite.workers import as_program, machine

LOCAL = ("algorithm=local_sgd", "algorithm.period=0")
LINES: dict[str, Words] = {
    "AllReduce": ("algorithm=allreduce",),
    "SGP": ("algorithm=sgp",),
    "SGP + SlowMo": ("algorithm=sgp", "outer=slowmo", "outer.tau=12", "outer.buffers=maintain"),
    "DiLoCo (H=30)": (*LOCAL, "outer=diloco", "outer.tau=30"),
    "NoLoCo (H=30)": (*LOCAL, "outer=noloco", "outer.tau=30"),
    "streaming DiLoCo (H=30, 4 fragments)": (
        *LOCAL,
        "outer=diloco",
        "outer.tau=30",
        "outer.fragments=4",
        "outer.overlap=5",
    ),
}
COLUMNS: list[tables.Column] = [
    ("", lambda row: row["name"]),
    ("seeds", lambda row: str(len(row["seeds"]))),
    ("bits per byte", tables.number("bits_per_byte", 4)),
    ("of the seeds", span),
    ("over AllReduce, %", lambda row: "-" if row["over"] is None else f"{100 * row['over']:+.2f}"),
    ("lr", lambda row: "preset's" if row["lr"] is None else f"{row['lr']:g}"),
    ("MB sent", tables.number("bytes_sent", 1, 1e-6)),
    ("most in a step, MB", tables.number("peak_step_bytes", 1, 1e-6)),
    ("ms a step", tables.number("step_time_ms", 0)),
]


def words_of(name: str, rate: float | None, seed: int, options: argparse.Namespace) -> Words:
    """Return what ``sgp-train`` is told of a run."""
    return (
        "experiment=language_small",
        *LINES[name],
        *(() if rate is None else (f"optimizer.lr={rate:g}",)),
        f"seed={seed}",
        "tracker=none",
        f"runs_dir={options.runs}",
        *options.overrides,
    )


def measure(options: argparse.Namespace) -> list[tables.Row]:
    """Choose learning rates if there is a choice, run every seed; return a row for each line."""
    names = [name for name in LINES if not options.only or name in options.only]

    def words(name: str, rate: float | None, seed: int) -> Words:
        return words_of(name, rate, seed, options)

    chosen: dict[str, float | None] = dict.fromkeys(names)
    if options.rates:
        chosen |= best_rates(names, lambda _: options.rates, words, options.at_once)
    found = run_all([words(name, chosen[name], seed) for name in names for seed in options.seeds], options.at_once)
    count, rows = len(options.seeds), list[tables.Row]()
    for at, name in enumerate(names):
        finals = found[at * count :][:count]
        keys = [key for key in ("bits_per_byte", "bytes_sent", "peak_step_bytes", "step_time_ms") if key in finals[0]]
        rows.append({"name": name, "seeds": list(options.seeds), "lr": chosen[name], **over_seeds(finals, keys)})
    whole = next((row["bits_per_byte"] for row in rows if row["name"] == "AllReduce"), None)
    for row in rows:
        row["over"] = None if whole is None else row["bits_per_byte"] / whole - 1
    return rows


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(LINES), metavar="LINE", help="lines of the table; else all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates to choose among; else the preset's")
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/language_small"))
    parser.add_argument("--json", type=Path, default=Path("docs/results/language_small.json"))
    return parser


def main() -> None:
    """Run what is missing, and write the table as JSON, and as Markdown beside it."""
    options, overrides = options_parser().parse_known_args()
    options.overrides = overrides
    about = {"benchmark": "language_small", **machine(), "rates": options.rates, "cores": os.cpu_count()}
    rows = measure(options)
    tables.save(options.json, about, rows)
    write_page(options.json.with_suffix(".md"), "language_small", tables.markdown(rows, COLUMNS, labels=1))


if __name__ == "__main__":
    as_program()
    main()
