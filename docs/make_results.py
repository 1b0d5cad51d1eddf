"""Make the picture and the table of results in the README from real runs of ``sgp-train``.

    python docs/make_results.py [RUNS_DIR]

Eight worker processes on this machine train a network with one hidden layer on the digits, three seeds per algorithm.
Runs that RUNS_DIR (default: runs/results) already holds are not repeated.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).parent
PICTURE = HERE / "images" / "results.svg"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results, written by docs/make_results.py -->", "<!-- end of results -->"

SEEDS = (0, 1, 2)
COMMON = (
    "-m",
    f"seed={','.join(map(str, SEEDS))}",
    "cluster.workers_per_node=8",
    "cluster.threads_per_worker=1",
    "model.hidden=[256]",
    "optimizer.lr=0.05",
    "training.batch_size=16",
    "evaluation.consensus_every=1",
    "log_every=1",
    "tracker=none",
)
CURVES = {
    "AllReduce": ("algorithm=allreduce",),
    "SGP": ("algorithm=sgp",),
    "D-PSGD, ring": ("algorithm=dpsgd", "topology=ring"),
    "local SGD": ("algorithm=local_sgd",),
    "SGP + SlowMo": ("algorithm=sgp", "outer=slowmo"),
}
COLOURS = ("#6b7280", "#2563eb", "#d97706", "#16a34a", "#9333ea")
ROUNDING = 1e-6
"""Largest difference between float32 replicas after an exact average."""

Row = dict[str, Any]


def main() -> None:
    """Start the runs that are missing, draw the picture and write the table."""
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/results")
    for overrides in CURVES.values():
        subprocess.run(
            [sys.executable, "-m", "launcher.cli.train", *COMMON, *overrides, f"runs_dir={runs}"], check=True
        )
    found = collect(runs)
    draw(found, PICTURE)
    README.write_text(with_table(README.read_text(encoding="utf-8"), table(found)), encoding="utf-8")


def collect(runs: Path) -> dict[str, list[list[Row]]]:
    """Return the metrics of every seed of every curve, read from the run folders."""
    found: dict[str, list[list[Row]]] = {name: [] for name in CURVES}
    for folder in sorted(runs.iterdir()):
        overrides = set(json.loads((folder / "spec.json").read_text())["overrides"])
        chosen = {word for word in overrides if word.split("=")[0] in ("algorithm", "topology", "outer")}
        name = next(name for name, words in CURVES.items() if set(words) == chosen)
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        found[name].append([json.loads(line) for line in lines])
    assert all(len(seeds) == len(SEEDS) for seeds in found.values()), f"{runs} holds other runs or too few"
    return found


def draw(found: dict[str, list[list[Row]]], path: Path) -> None:
    """Draw accuracy over traffic, and consensus distance over steps: the mean of the seeds, and their range."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "results", "font.size": 10})
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for (name, seeds), colour in zip(found.items(), COLOURS, strict=True):
        _, _, sent, _ = curve(seeds, "val", "bytes_sent")
        _, *accuracy = curve(seeds, "val", "accuracy")
        _band(left, [value / 1e6 for value in sent], accuracy, colour, name)
        steps, *distance = curve(seeds, "train", "consensus_distance")
        _band(right, steps, [[d if d > ROUNDING else float("nan") for d in of] for of in distance], colour, name)
    left.set(xlabel="MB sent by each worker", ylabel="validation accuracy, averaged model", xscale="log")
    right.set(xlabel="optimizer step", ylabel="consensus distance", yscale="log")
    left.set_xticks([0.1, 0.3, 1, 3, 10, 30], ["0.1", "0.3", "1", "3", "10", "30"])
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, loc="lower right")
    left.set_ylim(bottom=0.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def _band(axes: Axes, at: list[float], ranges: list[list[float]], colour: str, name: str) -> None:
    low, mean, high = ranges
    axes.plot(at, mean, color=colour, label=name, linewidth=1.5)
    axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)


def curve(seeds: Iterable[list[Row]], split: str, key: str) -> tuple[list[float], ...]:
    """Return the steps, and the smallest, mean and largest value over the seeds at each step."""
    values: dict[float, list[float]] = {}
    for rows in seeds:
        for row in rows:
            if row["split"] == split and row.get(key) is not None:
                values.setdefault(row["step"], []).append(row[key])
    steps = sorted(values)
    return (steps, *([of(values[step]) for step in steps] for of in (min, _mean, max)))


def table(found: dict[str, list[list[Row]]]) -> str:
    """Return the Markdown table: last accuracy, largest consensus distance of the last epoch, bytes sent per step."""
    lines = [
        "| | validation accuracy | consensus distance, last epoch | sent per worker and step |",
        "|---|---:|---:|---:|",
    ]
    for name, seeds in found.items():
        ends = [[row for row in rows if row["split"] == "val"][-1] for rows in seeds]
        accuracies = [row["accuracy"] for row in ends]
        late = _mean([_largest_distance(rows, after_epoch=ends[0]["epoch"] - 1) for rows in seeds])
        sent = ends[0]["bytes_sent"] / ends[0]["step"] / 1000
        spread = f"{_mean(accuracies):.3f} ({min(accuracies):.3f} to {max(accuracies):.3f})"
        apart = f"{late:.3f}" if late > ROUNDING else "0 (rounding)"
        lines.append(f"| {name} | {spread} | {apart} | {sent:.1f} kB |")
    return "\n".join(lines) + "\n"


def with_table(page: str, written: str) -> str:
    """Return ``page`` with ``written`` between the two markers."""
    before, rest = page.split(BEGIN + "\n")
    return f"{before}{BEGIN}\n{written}{END}{rest.split(END)[1]}"


def _largest_distance(rows: list[Row], after_epoch: float) -> float:
    late = [row["consensus_distance"] for row in rows if row["epoch"] > after_epoch]
    return max(distance for distance in late if distance is not None)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
