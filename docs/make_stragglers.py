"""Make the picture and the table of stragglers in docs/theory.md from virtual runs of ``sgp-train``.

    python docs/make_stragglers.py [RUNS_DIR]

Sixteen virtual workers train a network with one hidden layer on the digits, two seeds per algorithm. One of them takes
four times as long in every step; in the second panel each stalls now and then besides. Runs that RUNS_DIR (default:
runs/stragglers) already holds are not repeated. Times are those of the virtual clock: the same on every machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE / "images" / "theory" / "stragglers.svg"
PAGE = HERE / "theory.md"
BEGIN, END = "<!-- table: stragglers, written by make_stragglers.py -->", "<!-- end of table -->"

SEEDS = (0, 1)
TARGET = 0.93
COMMON = (
    "-m",
    f"seed={','.join(map(str, SEEDS))}",
    "cluster=simulator",
    "cluster.workers=16",
    "cluster.threads_per_worker=1",
    "network=ethernet_10g",
    "dataset=digits",
    "model=mlp",
    "model.hidden=[64]",
    "optimizer.lr=0.02",
    "training.batch_size=8",
    "training.epochs=12",
    "log_every=100",
    "checkpoint.every_epochs=0",
    "tracker=none",
)
STALLS = ("computation=stalls", "computation.who=each", "computation.probability=0.05", "computation.slow_worker=15")
SCENARIOS = {
    "one worker 4 times slower": ("computation=slow_worker", "computation.worker=15"),
    "and random stalls: 5 % of steps, 5 times as long": STALLS,
}
CURVES = {
    "AllReduce": ("algorithm=allreduce",),
    "SGP": ("algorithm=sgp",),
    "OSGP": ("algorithm=osgp",),
    "AD-PSGD": ("algorithm=adpsgd", "topology=bipartite_exponential"),
    "asynchronous SGP": ("algorithm=asgp",),
}
COLOURS = ("#6b7280", "#2563eb", "#0891b2", "#d97706", "#16a34a")

Points = list[tuple[float, float]]
"""Virtual seconds and accuracies of one run."""


def main() -> None:
    """Start the runs that are missing, draw the picture and write the table."""
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/stragglers")
    for scenario in SCENARIOS.values():
        for words in CURVES.values():
            to = f"runs_dir={runs}"
            subprocess.run([sys.executable, "-m", "launcher.cli.train", *COMMON, *scenario, *words, to], check=True)
    found = collect(runs)
    draw(found, PICTURE)
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table(found)), encoding="utf-8")


def collect(runs: Path) -> dict[str, dict[str, list[Points]]]:
    """Return virtual seconds and accuracies of every seed, by scenario and algorithm, read from the run folders."""
    found: dict[str, dict[str, list[Points]]] = {scenario: {name: [] for name in CURVES} for scenario in SCENARIOS}
    for folder in sorted(path.parent for path in runs.glob("*/spec.json")):
        chosen = set(json.loads((folder / "spec.json").read_text(encoding="utf-8"))["overrides"])
        scenario = next(name for name, words in SCENARIOS.items() if set(words) <= chosen)
        curve = next(name for name, words in CURVES.items() if set(words) <= chosen)
        rows = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        points = [(row["virtual_time_s"], row["accuracy"]) for row in rows if row["split"] == "val"]
        found[scenario][curve].append(points[:-1])  # the last one waits for the slowest worker's last step
    assert all(len(seeds) == len(SEEDS) for curves in found.values() for seeds in curves.values()), "runs are missing"
    return found


def seconds_to_target(points: Points) -> float:
    """Return when the accuracy reaches ``TARGET``, linearly between evaluations; inf if it does not."""
    for (before, low), (after, high) in zip([(0.0, 0.1), *points], points, strict=False):
        if high >= TARGET:
            return before + (after - before) * (TARGET - low) / (high - low)
    return float("inf")


def draw(found: dict[str, dict[str, list[Points]]], path: Path) -> None:
    """Draw accuracy over virtual time, a panel for each scenario, a line for each seed."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "stragglers", "font.size": 9})
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(9, 3.4), layout="constrained", sharey=True)
    for panel, (scenario, curves) in zip(panels, found.items(), strict=True):
        for (name, seeds), colour in zip(curves.items(), COLOURS, strict=True):
            for number, points in enumerate(seeds):
                panel.plot(*zip(*points, strict=True), color=colour, label=None if number else name, linewidth=1.2)
        panel.axhline(TARGET, color="black", linewidth=0.8, linestyle=":")
        panel.set(title=scenario, xlabel="virtual seconds", xscale="log", ylim=(0.5, 1.0))
        panel.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        panel.set_xticks([], minor=True)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("validation accuracy, averaged model")
    panels[0].legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def table(found: dict[str, dict[str, list[Points]]]) -> str:
    """Return the Markdown table: virtual seconds to the target, mean and range of the seeds, and against AllReduce."""
    lines = [f"| virtual seconds to {TARGET:.0%} | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    for name in CURVES:
        cells = []
        for curves in found.values():
            seconds = [seconds_to_target(points) for points in curves[name]]
            base = statistics.mean(map(seconds_to_target, curves["AllReduce"]))
            mean = statistics.mean(seconds)
            cells.append(f"{mean:.1f} ({min(seconds):.1f} to {max(seconds):.1f}), {base / mean:.1f} times as fast")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def with_table(page: str, written: str) -> str:
    """Return ``page`` with ``written`` between the two markers."""
    before, rest = page.split(BEGIN + "\n")
    return f"{before}{BEGIN}\n{written}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    main()
