"""Workers killed and stopped in one elastic run: its accuracy beside the undisturbed run's, pauses, and the mass.

    python benchmarks/elastic_kills.py --json runs/benchmarks/elastic_kills.json          # digits
    python benchmarks/elastic_kills.py --workloads cifar10 --images DIR                   # a tree of images
    python benchmarks/elastic_kills.py --seeds 0 --failures 4 --steps 1000                # a part of it

Eight workers of ``sgp-train cluster.elastic=true`` on this machine. In each disturbed run, SIGKILL and SIGSTOP, half
and half, befall 20 workers by chance, from outside, spread over the steps of the run; the launcher replaces them. The
next failure waits while ``--away`` workers are missing. Beside it the same run undisturbed, for each seed.

``accuracy`` is that of the averaged model at the end. ``restarts`` counts attempts after the first, which would begin
from a checkpoint. ``longest pause`` is the longest time from step to step of any worker that lived through it, whoever
died; ``step`` is the usual time from step to step. ``mass defect`` is by how much the PushSum weights of the members at
the end differ from what they, and those that died, have given each other.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from suite import failures, mass, steps, tables
from suite.launches import Launches, Unexpected, looks, read, run_folders, workers
from suite.workers import as_program, machine

_PULSE = Path(__file__).parent / "suite" / "pulse.py"
_END_S = 3600.0
WORKLOADS: dict[str, tuple[list[str], int]] = {
    "digits": (["dataset=digits", "model=mlp", "schedule=cosine"], 12000),
    "cifar10": (["experiment=cifar10_sgp_small", "dataset=image_folder"], 6000),
}
"""Words for ``sgp-train``, and how many steps: failures need a few minutes to be mended."""
_IMAGES = 50_000
_DECAYS = (0.5, 0.75, 0.875)
"""Where the small CIFAR-10 runs lower their learning rate, as shares of the run."""


def line(workload: str, seed: int, options: argparse.Namespace, folder: Path) -> list[str]:
    """Return the words of a run."""
    words, usual = WORKLOADS[workload]
    total = options.steps or usual
    images = []
    if workload == "cifar10":
        epochs = total * options.workers * 32 / _IMAGES
        decays = ",".join(f"{share * epochs:.3f}" for share in _DECAYS)
        images = [f"dataset.path={options.images}", f"schedule.decay_epochs=[{decays}]"]
    size = [f"cluster.workers_per_node={options.workers}", "cluster.threads_per_worker=1", "cluster.elastic=true"]
    ends = [f"training.max_steps={total}", "training.epochs=100000000", "evaluation.every_epochs=0"]
    pulses = [f"plugins=[{_PULSE}]", f"callbacks=[{{name: pulse, folder: {folder}}}]"]
    seldom = ["checkpoint.every_epochs=0", "tracker=none", f"seed={seed}", f"runs_dir={folder / 'runs'}"]
    return [*words, *images, *size, *ends, *pulses, *seldom]


class Storm:
    """Failures by the list, each when its step is reached and few enough workers are missing."""

    def __init__(self, planned: list[failures.Failure], total_steps: int, count: int, away: int) -> None:
        self.waiting = list(planned)
        self.total_steps, self.count, self.away = total_steps, count, away
        self.died: dict[int, str] = {}
        """By process, what befell it."""

    def look(self, reports: dict[int, dict[str, Any]], last_step: int) -> None:
        """Inflict the next failure if it is time for it.

        Args:
            reports: of the workers, by rank.
            last_step: that any of them has taken.
        """
        train = {rank: told["pid"] for rank, told in reports.items() if told.get("status") == "training"}
        living = {rank: pid for rank, pid in train.items() if pid not in self.died}
        if not self.waiting or last_step < self.waiting[0].at_s * self.total_steps:
            return
        if len(living) < self.count - self.away + 1:
            return
        failure = self.waiting[0]
        ranks = [(failure.rank + k) % self.count for k in range(self.count)]
        victim = next(living[rank] for rank in ranks if rank in living)
        if failure.inflict(victim):
            self.died[victim] = failure.how
            self.waiting.pop(0)


def plan(count: int, number: int, seed: int) -> list[failures.Failure]:
    """Return the failures of a run: ``at_s`` is a share of its steps, from 2 to 85 %, so that all can be mended."""
    of_time = failures.every(1.0, float(number), count, seed, list(failures.SIGNALS))
    return [failures.Failure(0.02 + 0.83 * of.at_s / number, of.rank, of.how) for of in of_time]


def train(launches: Launches, folder: Path, words: list[str], storm: Storm) -> dict[str, Any]:
    """Run to the end under a storm; return what became of it.

    Raises:
        Unexpected: the run did not complete.
    """
    folder.mkdir(parents=True)
    begin = time.time()
    launch = launches.start("train", words)
    for _ in looks(_END_S, every_s=0.2):
        if launch.process.poll() is not None:
            break
        for run in run_folders(folder / "runs"):
            storm.look(workers(run, storm.count), _last_step(folder))
    launch.finish()
    [run] = run_folders(folder / "runs")
    summary = read(run / "summary.json")
    if summary.get("status") != "completed":
        raise Unexpected(f"{run} is {summary.get('status')}")
    return {"seconds": time.time() - begin, "accuracy": summary["final"]["accuracy"], **look_back(folder, run, storm)}


def look_back(folder: Path, run: Path, storm: Storm) -> dict[str, Any]:
    """Return what the files of a run say of failures, pauses and mass."""
    found = steps.read_steps(folder)
    lived = [of for of in found if of.pid not in storm.died]
    return {
        "failures": len(storm.died),
        "killed": list(storm.died.values()).count("kill"),
        "not_inflicted": len(storm.waiting),
        "joined": len(found) - storm.count,
        "restarts": len(list((run / "logs").glob("attempt-*"))) - 1,
        "longest_pause_s": max((steps.longest_pause(of, of.begin, of.end) for of in lived), default=0.0),
        "step_s": statistics.median(steps.usual_step(of) for of in found) if found else 0.0,
        "mass_defect": mass.mass_defect(mass.read_accounts(folder)),
    }


def _last_step(folder: Path) -> int:
    """Return the last step that any worker has noted: the ends of the files are enough."""
    last = 0
    for path in folder.glob("pulse-*.jsonl"):
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 200))
            whole = [text for text in file.read().split(b"\n")[:-1] if text.endswith(b"]")]
        if whole:
            last = max(last, int(whole[-1].rpartition(b",")[2].strip(b" ]")))
    return last


def rows_of(measured: list[dict[str, Any]]) -> list[tables.Row]:
    """Return a row for each workload and seed: the disturbed run beside the undisturbed one."""
    runs = {(row["workload"], row["seed"], row["disturbed"]): row for row in measured}
    return [
        {
            **row,
            "undisturbed": runs[workload, seed, False]["accuracy"],
            "difference": row["accuracy"] - runs[workload, seed, False]["accuracy"],
            "usual_step_s": runs[workload, seed, False]["step_s"],
        }
        for (workload, seed, disturbed), row in runs.items()
        if disturbed and (workload, seed, False) in runs
    ]


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=["digits"], choices=WORKLOADS, metavar="NAME")
    parser.add_argument("--images", type=Path, help="CIFAR-10 as a tree of images, or an archive of one")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--failures", type=int, default=20)
    parser.add_argument("--steps", type=int, help="of a run; else by workload")
    parser.add_argument("--away", type=int, default=2, help="workers that may be missing at a time")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Run, and print."""
    parser = options_parser()
    options = parser.parse_args()
    if "cifar10" in options.workloads and options.images is None:
        parser.error("cifar10 needs --images")
    about = {"benchmark": "elastic_kills", **machine(), "rounds": 1, "workers": options.workers}
    print(f"torch {about['torch']}, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="sgp-kills-"))
    launches, measured = Launches(folder), list[dict[str, Any]]()
    try:
        for workload in options.workloads:
            total = options.steps or WORKLOADS[workload][1]
            for seed in options.seeds:
                for number in (0, options.failures):
                    place = folder / f"{workload}-{seed}-{number}"
                    words = line(workload, seed, options, place)
                    storm = Storm(plan(options.workers, number, seed), total, options.workers, options.away)
                    row = {"workload": workload, "seed": seed, "disturbed": number > 0, "steps": total}
                    measured.append({**row, **train(launches, place, words, storm)})
                    print(f"{measured[-1]}", flush=True)
    finally:
        launches.kill()
        shutil.rmtree(folder, ignore_errors=True)
    rows = rows_of(measured)
    print(tables.elastic_kills(rows), end="\n\n")
    if options.json:
        tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
