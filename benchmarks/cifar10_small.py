"""The small CIFAR-10 experiments, each base with and without SlowMo: accuracy, distance and bytes, from real runs.

    python benchmarks/cifar10_small.py dataset.path=DIR dataset.download=true         # torchvision's files
    python benchmarks/cifar10_small.py dataset=image_folder dataset.path=DIR          # a tree of images
    python benchmarks/cifar10_small.py --bases sgp --seeds 0 dataset.path=DIR         # a part of it

Runs ``experiment=cifar10_BASE_small`` and ``cifar10_BASE_slowmo_small`` of ``conf/experiment`` for every base and seed;
four gloo workers and two epochs each, so the same budget of examples and steps. Further words are overrides for
``sgp-train``. Runs that ``--runs`` already holds are not repeated, and interrupted ones go on. Then ``--out`` gets the
table of all completed runs there, as JSON and Markdown, so keep others elsewhere.

Accuracy is that of the averaged model on the test images after the last epoch: the mean of the seeds, and their range.
The consensus distance is that at the same moment; after an outer step it is 0 by construction, so how far apart workers
were during training is the mean over the epochs' ends and every 50 steps. Bytes are those one worker sent in all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from suite import tables

BASES = ("allreduce", "sgp", "osgp", "dpsgd", "local_sgd")
OUTERS = ("none", "slowmo")
COLUMNS: list[tables.Column] = [
    ("base", lambda row: f"`{row['base']}`"),
    ("outer", lambda row: f"`{row['outer']}`"),
    ("seeds", lambda row: str(len(row["seeds"]))),
    ("accuracy, %", tables.number("accuracy", 2, 100)),
    ("of the seeds", lambda row: f"{100 * min(row['accuracies']):.2f} to {100 * max(row['accuracies']):.2f}"),
    ("distance at the end", lambda row: f"{row['consensus_distance']:.1e}"),
    ("on the way", lambda row: f"{row['distance_on_the_way']:.1e}"),
    ("MB sent", tables.number("bytes_sent", 1, 1e-6)),
    ("of AllReduce", tables.number("of_allreduce", 2)),
]


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--outers", nargs="+", choices=OUTERS, default=list(OUTERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/cifar10_small"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/cifar10_small"), help="without .json and .md")
    chosen, overrides = parser.parse_known_args()
    presets = [preset(base, outer) for base in chosen.bases for outer in chosen.outers]
    words = [
        "-m",
        f"experiment={','.join(presets)}",
        f"seed={','.join(map(str, chosen.seeds))}",
        "cluster.threads_per_worker=1",
        "evaluation.consensus_every=50",
        "tracker=none",
        f"runs_dir={chosen.runs}",
        *overrides,
    ]
    subprocess.run([sys.executable, "-m", "launcher.cli.train", *words], check=True)
    rows = rows_of(collect(chosen.runs))
    about = {
        "benchmark": "cifar10_small",
        "dataset": next((word for word in overrides if word.startswith("dataset=")), "dataset=cifar10"),
        "workers": 4,
        "cores": os.cpu_count(),
    }
    tables.save(chosen.out.with_suffix(".json"), about, rows)
    table = tables.markdown(rows, COLUMNS, labels=2)
    chosen.out.with_suffix(".md").write_text(f"{table}\n", encoding="utf-8")
    print(table)


def preset(base: str, outer: str) -> str:
    """Return the name of an experiment in ``conf/experiment``."""
    return f"cifar10_{base}_small" if outer == "none" else f"cifar10_{base}_{outer}_small"


def collect(runs: Path) -> list[dict[str, Any]]:
    """Return what every completed run under ``runs`` came to, read off its folder."""
    found = []
    for folder in sorted(path for path in runs.iterdir() if (path / "summary.json").exists()):
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        if summary["status"] != "completed":
            continue
        experiment = json.loads((folder / "spec.json").read_text(encoding="utf-8"))["experiment"]
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        distances = [row.get("consensus_distance") for row in map(json.loads, lines)]
        found.append(
            {
                "run": folder.name,
                "base": experiment["algorithm"]["name"],
                "outer": experiment["outer"]["name"],
                "seed": experiment["seed"],
                "steps": summary["steps"],
                "distance_on_the_way": statistics.mean(distance for distance in distances if distance is not None),
                **{key: summary["final"][key] for key in ("accuracy", "consensus_distance", "bytes_sent")},
            }
        )
    return found


def rows_of(runs: list[dict[str, Any]]) -> list[tables.Row]:
    """Return a row for each base and outer, in the order of :data:`BASES`; those without a run are left out."""
    rows: list[tables.Row] = []
    for base in BASES:
        for outer in OUTERS:
            mine = sorted((run for run in runs if (run["base"], run["outer"]) == (base, outer)), key=_seed)
            if mine:
                means = ("accuracy", "consensus_distance", "distance_on_the_way", "bytes_sent")
                row = {key: statistics.mean(run[key] for run in mine) for key in means}
                about = {"base": base, "outer": outer, "seeds": [run["seed"] for run in mine]}
                rows.append(
                    {**about, "accuracies": [run["accuracy"] for run in mine], **row, "steps": mine[0]["steps"]}
                )
    whole = [row["bytes_sent"] for row in rows if (row["base"], row["outer"]) == ("allreduce", "none")]
    for row in rows:
        row["of_allreduce"] = row["bytes_sent"] / whole[0] if whole else None
    return rows


def _seed(run: dict[str, Any]) -> int:
    return int(run["seed"])


if __name__ == "__main__":
    main()
