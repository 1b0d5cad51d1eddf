"""What starting a run costs: from Enter to the first training step, against four bare processes that join a group.

    python benchmarks/launch.py                          # 4 workers, Weights & Biases off and on, 7 rounds
    python benchmarks/launch.py --rounds 15 --json launch.json
    python benchmarks/launch.py --cpu                    # only where CPU time goes, which other load changes little

``bare`` starts as many Python processes that import torch, join a gloo group and finish one all_reduce: no launcher can
start workers for less. ``sgp-train`` is the whole command ``sgp-train cluster=local`` until the row of the first step
is in ``metrics.jsonl``. The contenders take turns, in an order that rotates from round to round, so that a slow moment
of the machine falls on all of them; reported are medians over rounds, and the median of the rounds' ratios.
Stages end when the last worker is through with them. Linux only: CPU times are read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launcher.runs.run_folder import RunFolder
from launcher.system import processes
from sgp_core.atomic_files import read_json

BARE = """
import os
import sys
import time
import torch
import torch.distributed as dist
rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", world_size), rank=rank, world_size=world_size)
dist.all_reduce(torch.zeros(1))
print(time.time(), flush=True)
dist.barrier()
os._exit(0)
"""
LAUNCHES = {"sgp-train, W&B off": ["tracker=none"], "sgp-train, W&B on": ["tracker=wandb", "tracker.mode=offline"]}
STAGES = {
    "recorded": "compose, check, record",
    "started": "submitit's controller, new processes",
    "begun": "workers import submitit and the launcher",
    "joined": "workers import torch and join; rank 0 opens trackers",
    "first_step": "data, model, optimizer, first step",
}
_LOOK_S = 0.003
_TICKS = os.sysconf("SC_CLK_TCK")

# What one process does, in order. Each line is run in a fresh interpreter and its CPU time is taken.
LAUNCHER = {
    "import hydra": "import hydra, omegaconf",
    "compose": "from launcher.config.compose import compose; points = compose(ARGUMENTS)",
    "plan and check": "from launcher.config.make_plan import make_plans; plan = make_plans(points)[0]",
    "record provenance": "from launcher.execution import provenance; provenance.record(FOLDER, ARGUMENTS)",
    "import submitit": "import submitit",
}
WORKER = {
    "import submitit": "import submitit.core.submission",
    "import launcher": "import launcher.worker.worker",
    "import torch": "import torch, torch.distributed",
    "import the training loop": "import sgp_core.training.loop as loop",
    "read data": "from sgp_core.tasks.datasets import DATASETS; DATASETS.build('digits').load()",
    "assemble": (
        "experiment = loop.Experiment.from_dict(EXPERIMENT); torch.set_num_threads(1); cpu = torch.device('cpu'); "
        "from sgp_core.training import peers, step; "
        "parts = loop.assemble(experiment, cpu, peers.Peers(cpu))"
    ),
    "first step": (
        "batch = parts.task.batch(torch.arange(32)); "
        "step.TrainingStep(parts.model, parts.optimizer, parts.gossip, torch.nn.functional.cross_entropy, "
        "experiment.training)(batch)"
    ),
}
CPU_TIMES = """
import json, sys, time
from pathlib import Path
given = json.load(sys.stdin)
names = {"ARGUMENTS": given["arguments"], "EXPERIMENT": given["experiment"], "FOLDER": Path(given["folder"])}

def cpu():
    import resource
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime

spent = {"start Python": cpu()}
for what, statement in given["lines"].items():
    before = cpu()
    exec(statement, names)
    spent[what] = cpu() - before
print(json.dumps(spent))
"""


def bare(workers: int) -> dict[str, float]:
    """Start bare processes; return seconds until the last has finished its all_reduce, and their CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        before, start = _children_cpu(), time.time()
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
        started = [
            subprocess.Popen(
                [sys.executable, "-c", BARE, str(rank), str(workers), folder], env=environment, stdout=subprocess.PIPE
            )
            for rank in range(workers)
        ]
        ends = [float(process.communicate()[0]) for process in started]
    return {"total": max(ends) - start, "cpu": _children_cpu() - before}


def launched(workers: int, overrides: list[str]) -> dict[str, float]:
    """Run ``sgp-train`` for one step; return the seconds of every stage, of all until the first step, and of CPU."""
    command = [str(Path(sys.executable).with_name("sgp-train")), f"cluster.workers_per_node={workers}"]
    settings = ["cluster=local", "cluster.threads_per_worker=1", "training.max_steps=1", "log_every=1", *overrides]
    with tempfile.TemporaryDirectory() as runs:
        start = time.time()
        process = subprocess.Popen([*command, *settings, f"runs_dir={runs}"], stdout=subprocess.PIPE, text=True)
        reached: dict[str, float] = {}
        while "first_step" not in reached and process.poll() is None:
            time.sleep(_LOOK_S)
            _look(Path(runs), workers, reached)
        cpu = _tree_cpu(process.pid)
        said, _ = process.communicate()
    if process.returncode or list(reached) != list(STAGES):
        raise RuntimeError(f"sgp-train ended with {process.returncode} after {list(reached)}: {said}")
    moments = [start, *reached.values()]
    spans = {stage: moments[i + 1] - moments[i] for i, stage in enumerate(reached)}
    return {**spans, "total": moments[-1] - start, "cpu": cpu}


def _look(runs: Path, workers: int, reached: dict[str, float]) -> None:
    """Note the moment of each stage that all workers have reached by now."""
    folder = next((RunFolder(entry) for entry in runs.iterdir() if entry.name != "sweeps"), None)
    if folder is None:
        return
    now = time.time()
    if folder.spec.exists():
        reached.setdefault("recorded", now)
    said = [report for rank in range(workers) if (report := read_json(folder.rank(rank)))]
    if len(said) == workers:
        booted = now - time.clock_gettime(time.CLOCK_BOOTTIME)
        reached.setdefault("started", max(booted + int(report["started"]) / _TICKS for report in said))
        reached.setdefault("begun", now)
        if all(report["status"] != "starting" for report in said):
            reached.setdefault("joined", now)
    if folder.metrics.exists() and folder.metrics.stat().st_size:
        reached.setdefault("first_step", now)


def cpu_times(lines: dict[str, str], given: dict[str, Any], rounds: int) -> dict[str, float]:
    """Return median CPU seconds of each line, run one after another in a fresh interpreter."""
    runs: list[dict[str, float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            told = json.dumps({**given, "lines": lines, "folder": folder})
            done = subprocess.run(
                [sys.executable, "-c", CPU_TIMES], input=told, stdout=subprocess.PIPE, text=True, check=True
            )
        runs.append(json.loads(done.stdout))
    return {what: statistics.median(run[what] for run in runs) for what in runs[0]}


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _tree_cpu(pid: int) -> float:
    """Return the CPU seconds of a living process, its living descendants, and those of them that have ended."""
    ticks = 0
    for number in [pid, *(child.pid for child in processes.descendants(pid))]:
        try:
            stat = Path(f"/proc/{number}/stat").read_text()
        except OSError:
            continue
        ticks += sum(map(int, stat[stat.rindex(")") + 2 :].split()[11:15]))
    return ticks / _TICKS


def compare(workers: int, rounds: int) -> list[dict[str, Any]]:
    """Let all contenders take turns; return a row each."""
    contenders: dict[str, Callable[[], dict[str, float]]] = {"bare": lambda: bare(workers)}
    for name, overrides in LAUNCHES.items():
        contenders[name] = lambda overrides=overrides: launched(workers, overrides)  # type: ignore[misc]
    names = list(contenders)
    for name in names:  # fills the file cache
        contenders[name]()
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            taken[name].append(contenders[name]())
    rows = []
    for name in names:
        ratios = [mine["total"] / floor["total"] for mine, floor in zip(taken[name], taken["bare"], strict=True)]
        cpu_ratios = [mine["cpu"] / floor["cpu"] for mine, floor in zip(taken[name], taken["bare"], strict=True)]
        medians = {key: statistics.median(run[key] for run in taken[name]) for key in taken[name][0]}
        rows.append(
            {
                "name": name,
                "workers": workers,
                "rounds": rounds,
                **medians,
                "ratio": statistics.median(ratios),
                "ratio_least": min(ratios),
                "ratio_most": max(ratios),
                "cpu_ratio": statistics.median(cpu_ratios),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return contenders and stages as two tables."""
    lines = ["| | seconds | / bare | least | most | CPU seconds | / bare |", "|---|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        lines.append(
            f"| {row['name']} | {row['total']:.2f} | {row['ratio']:.2f} | {row['ratio_least']:.2f} "
            f"| {row['ratio_most']:.2f} | {row['cpu']:.2f} | {row['cpu_ratio']:.2f} |"
        )
    launches = [row for row in rows if "recorded" in row]
    lines += ["", f"| seconds | {' | '.join(row['name'] for row in launches)} |", "|---|" + "---:|" * len(launches)]
    for stage, what in STAGES.items():
        lines.append(f"| {what} | {' | '.join(f'{row[stage]:.2f}' for row in launches)} |")
    return "\n".join(lines)


def where_cpu_goes(rounds: int) -> dict[str, dict[str, float]]:
    """Return the CPU seconds of what the launcher does and of what one worker does."""
    from launcher.config.compose import compose
    from launcher.config.make_plan import make_plans

    plan = make_plans(compose(["cluster=inline", "topology=complete"]))[0]
    given = {"arguments": ["cluster=local"], "experiment": plan.experiment.to_dict()}
    return {"sgp-train": cpu_times(LAUNCHER, given, rounds), "a worker": cpu_times(WORKER, given, rounds)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="only where the CPU time goes")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {__doc__}")
    rows = [] if options.cpu else compare(options.workers, options.rounds)
    if rows:
        print(table(rows))
    parts = where_cpu_goes(min(options.rounds, 5))
    for name, spent in parts.items():
        print(f"\n| CPU seconds of {name} alone | {sum(spent.values()):.2f} |\n|---|---:|")
        print("\n".join(f"| {what} | {seconds:.2f} |" for what, seconds in spent.items()))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "cpu": parts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
