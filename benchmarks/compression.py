"""What compression of messages costs in accuracy and saves in bytes, from real runs of ``sgp-train``.

    python benchmarks/compression.py                                            # digits: seconds a run
    python benchmarks/compression.py --data cifar10 dataset.path=DIR            # CIFAR-10, model=cnn
    python benchmarks/compression.py --data images dataset.path=DIR             # the same from a tree of images

Four gloo workers on this machine, SGP on one_peer_exponential, each codec with its defaults, three seeds. Further words
are overrides for ``sgp-train``. Runs that ``--runs`` already holds are not repeated. Accuracy is that of the averaged
model on the validation set after the last epoch: the mean of the seeds, and their range. ``behind`` is the mean
difference to the uncompressed run of the same seed, in points of accuracy. The time of a step is this machine's, whose
network is its memory: it says what coding costs, nothing about networks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from sgp_core.compression import COMPRESSIONS

PLAIN = "none"
DATA = {
    "digits": ("dataset=digits", "model=mlp", "training.epochs=10"),
    "cifar10": ("dataset=cifar10", "model=cnn", "training.epochs=2", "schedule=cosine"),
    "images": ("dataset=image_folder", "model=cnn", "training.epochs=2", "schedule=cosine"),
}


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA, default="digits")
    parser.add_argument("--codecs", nargs="+", default=[PLAIN, *COMPRESSIONS.names()])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/compression"))
    chosen, overrides = parser.parse_known_args()
    words = [
        "-m",
        *DATA[chosen.data],
        f"compression={','.join(chosen.codecs)}",
        f"seed={','.join(map(str, chosen.seeds))}",
        "cluster.workers_per_node=4",
        "cluster.threads_per_worker=1",
        "tracker=none",
        f"runs_dir={chosen.runs}",
        *overrides,
    ]
    subprocess.run([sys.executable, "-m", "launcher.cli.train", *words], check=True)
    print(table(collect(chosen.runs, chosen.data), chosen.codecs))


def collect(runs: Path, data: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the final metrics of every seed of every codec, read off the run folders."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for folder in sorted(runs.iterdir()):
        if not (folder / "summary.json").exists():
            continue
        experiment = json.loads((folder / "spec.json").read_text())["experiment"]
        summary = json.loads((folder / "summary.json").read_text())
        if summary["status"] != "completed":
            continue  # of another run, still being written
        if f"dataset={experiment['dataset']['name']}" in DATA[data]:
            train = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            times = [row["step_time_ms"] for row in train if row["split"] == "train"]
            final = {**summary["final"], "steps": summary["steps"], "step_ms": statistics.median(times)}
            found.setdefault(experiment["compression"]["name"], {})[experiment["seed"]] = final
    return found


def table(found: dict[str, dict[int, dict[str, Any]]], codecs: list[str]) -> str:
    """Return Markdown: a row per codec."""
    lines = [
        "| | bytes per step | of uncompressed | accuracy | behind | consensus distance | step, ms |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    plain = found.get(PLAIN, {})
    for name in codecs:
        seeds = found[name]
        scores = [run["accuracy"] for run in seeds.values()]
        sent = statistics.mean(run["bytes_sent"] / run["steps"] for run in seeds.values())
        whole = statistics.mean([run["bytes_sent"] / run["steps"] for run in plain.values()] or [sent])
        behind = [100 * (plain[seed]["accuracy"] - run["accuracy"]) for seed, run in seeds.items() if seed in plain]
        apart = statistics.mean(run["consensus_distance"] for run in seeds.values())
        step = statistics.median(run["step_ms"] for run in seeds.values())
        lines.append(
            f"| `{name}` | {sent:,.0f} | {sent / whole:.3f} |"
            f" {statistics.mean(scores):.4f} ({min(scores):.4f} to {max(scores):.4f}) |"
            f" {statistics.mean(behind) if behind else 0.0:+.2f} | {apart:.4f} | {step:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
