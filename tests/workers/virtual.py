"""The same experiments with processes and with virtual workers, in float64: ``python -m tests.workers.virtual``.

As a script it gives ``sgp-train`` every algorithm with every outer that it goes with, and more, for 100 steps: once to
8 processes, once to 8 virtual workers. It prints how far apart their rows are. Words after it choose among the cases:
those in whose words each occurs, as in ``algorithm=osgp outer=slowmo``. ``runs_dir=FOLDER`` keeps the runs; a call that
was interrupted goes on from there, since ``sgp-train`` leaves completed runs alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sgp_core.algorithms import ALGORITHMS, OUTERS
from sgp_core.errors import ConfigurationError
from sgp_core.plugins import load_plugins
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment
from sgp_core.training.experiment import build_parts
from sgp_core.training.loop import train
from sgp_core.training.virtual.world import VirtualWorld

WORKERS, STEPS, CLOSE = 8, 100, 1e-10
TOGETHER = 2
"""Cases that are trained at a time: much of it is one process that starts."""
BUSY_MACHINE = ("cluster.watchdog_s=null", "cluster.process_group_timeout_s=3600")
"""What lets processes take their time."""
PLUGIN = Path(__file__).parents[1] / "plugins" / "doubles.py"
EVALUATION = {"model": "both", "every_epochs": 2, "consensus_every": 20}
CHECKPOINT = {"every_epochs": 0}
CPU = torch.device("cpu")

Case = dict[str, Any]
"""What an experiment has that others have not: its choices, ``training``, ``node_size``."""

LOPSIDED = {
    "name": "schedule",
    "unit": "step",
    "phases": [
        {"start": 0, "name": "star", "weights": "uniform"},
        {"start": 4, "name": "directed_ring"},
        {"start": 9, "name": "star", "weights": "uniform"},
        {"start": 60, "name": "one_peer_exponential"},
    ],
}
"""Weights leave 1 by far, and graphs change."""

MORE: list[Case] = [
    {"topology": LOPSIDED},
    {"topology": LOPSIDED, "algorithm": {"name": "sgp", "overlap_steps": 2}},
    {"topology": LOPSIDED, "algorithm": {"name": "osgp"}, "outer": {"name": "slowmo", "tau": 7}},
    {"compression": {"name": "int8"}, "topology": {"name": "ring"}},
    {"pace": {"name": "every", "steps": 3}, "optimizer": {"name": "adamw", "lr": 0.01}},
    {"node_size": 2, "training": {"clip_norm": 0.5}},
    {"training": {"accumulation_steps": 3, "clip_norm": 0.5}, "model": {"name": "double_mlp", "dropout": 0.2}},
    {"partition": {"name": "dirichlet", "alpha": 0.5}, "algorithm": {"name": "allreduce"}},
    {"optimizer": {"name": "muon"}, "outer": {"name": "slowmo", "tau": 7, "buffers": "reset"}, "node_size": 2},
    {"optimizer": {"name": "adafactor"}, "outer": {"name": "slowmo", "tau": 7, "buffers": "average"}},
    {
        "algorithm": {"name": "local_sgd", "period": 0},
        "outer": {"name": "diloco", "tau": 6, "fragments": 2, "overlap": 2, "compression": "int4"},
    },
]
"""Weights that leave 1, messages in flight, codes, paces, node groups, clipping, dropout, BatchNorm, unequal shares,
and optimizers that look at whole matrices."""


def matrix() -> list[Case]:
    """Return every algorithm whose workers keep step with every outer that goes with it, and more."""
    cases: list[Case] = []
    for name in ALGORITHMS.names():
        if ALGORITHMS.get(name).traits.one_sided:
            continue  # no two runs of those are alike
        for outer in ("none", *OUTERS.names()):
            case: Case = {"algorithm": {"name": name}, "outer": {"name": outer}}
            if outer != "none":
                case["outer"]["tau"] = 7
            if ALGORITHMS.get(name).traits.one_symmetric_graph or name == "relaysgd":
                case["topology"] = {"name": "spanning_tree"}
            if ALGORITHMS.get(name).traits.own_momentum:
                case["optimizer"] = {"name": "sgd", "lr": 0.05, "momentum": 0.0, "nesterov": False}
            try:
                build_parts(experiment(case, 1))
            except ConfigurationError:
                continue
            cases.append(case)
    return [*cases, *MORE]


# -- a case, as an experiment and as words ----------------------------------------------------------------------------
def settings(case: Case, steps: int) -> dict[str, Any]:
    """Return the choices of a case, and its training."""
    chosen = {
        "model": {"name": "double_mlp"},
        "dataset": {"name": "digits"},
        "loss": {"name": "double_loss"},
        "topology": {"name": "one_peer_exponential"},
        "algorithm": {"name": "sgp"},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "schedule": {"name": "constant"},
        **{key: value for key, value in case.items() if key != "node_size"},
    }
    return {**chosen, "training": {"epochs": 100, "max_steps": steps, "batch_size": 16, **case.get("training", {})}}


def experiment(case: Case, steps: int) -> Experiment:
    """Return a case as an experiment; the plug-in has to be loaded."""
    load_plugins([PLUGIN])
    return Experiment.from_dict({**settings(case, steps), "world_size": WORKERS, "node_size": case.get("node_size", 1)})


def words(case: Case, steps: int, *, virtual: bool) -> list[str]:
    """Return what ``sgp-train`` is told for the same experiment, and where it is to run."""
    size = case.get("node_size", 1)
    found = [f"plugins={PLUGIN}", f"cluster.workers_per_node={size}", "cluster.threads_per_worker=1"]
    if size > 1:
        found.append("algorithm.unit=node")
    if virtual:
        found += ["cluster=simulator", f"cluster.workers={WORKERS}"]
    else:
        found += ["cluster=local", f"cluster.nodes={WORKERS // size}", *BUSY_MACHINE]
    sections = {**settings(case, steps), "evaluation": EVALUATION, "checkpoint": CHECKPOINT}
    for section, options in sections.items():
        found += [f"{section}={options['name']}"] if "name" in options else []
        found += [f"{section}.{key}={_word(value)}" for key, value in options.items() if key != "name"]
    return [*found, "tracker=none", "log_every=1"]


def _word(value: Any) -> str:
    """Return a value as Hydra reads it: JSON without quotation marks."""
    return json.dumps(value).replace('"', "")


# -- in one group of workers, for a test ------------------------------------------------------------------------------
def run_processes(cases: Sequence[Case], steps: int, folder: str) -> list[list[dict[str, Any]]]:
    """Train all cases as one worker of a group; return rank 0's rows."""
    torch.set_num_threads(1)
    return [_run(case, steps, Path(folder, str(number)), virtual=False) for number, case in enumerate(cases)]


def run_virtual(cases: Sequence[Case], steps: int, folder: str) -> list[list[dict[str, Any]]]:
    """Train all cases with virtual workers."""
    return [_run(case, steps, Path(folder, f"v{number}"), virtual=True) for number, case in enumerate(cases)]


def _run(case: Case, steps: int, directory: Path, *, virtual: bool) -> list[dict[str, Any]]:
    leads = virtual or dist.get_rank() == 0
    trackers = [JsonlTracker(directory / "metrics.jsonl")] if leads else []
    train(
        experiment(case, steps),
        directory=directory,
        device=CPU,
        evaluation=EvaluationConfig.from_dict(EVALUATION),
        checkpoint=CheckpointConfig.from_dict(CHECKPOINT),
        log_every=1,
        trackers=trackers,
        virtual=VirtualWorld() if virtual else None,
    )
    for tracker in trackers:
        tracker.finish("completed", {})
    return read_rows(directory / "metrics.jsonl") if leads else []


# -- through the command line -----------------------------------------------------------------------------------------
def call_sgp_train(case: Case, steps: int, runs_dir: Path, *, virtual: bool) -> tuple[str, list[dict[str, Any]]]:
    """Train a case by ``sgp-train``, unless it is there; return the run's id, and its rows.

    Raises:
        RuntimeError: the command has failed; with what it said.
    """
    runs = runs_dir / experiment(case, steps).fingerprint()[:10] / ("virtual" if virtual else "processes")
    command = [sys.executable, "-m", "launcher.cli.train", *words(case, steps, virtual=virtual), f"runs_dir={runs}"]
    environment = {**os.environ, "XDG_STATE_HOME": str(runs_dir)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {' '.join(command)}\n{done.stdout}{done.stderr}")
    [metrics] = runs.glob("*/metrics.jsonl")
    return metrics.parent.name, read_rows(metrics)


def difference(real: list[dict[str, Any]], virtual: list[dict[str, Any]]) -> dict[str, float]:
    """Return the largest difference of each number that both have, relative to 1 or the number.

    What the task computes of the validation set is in float32, and named so.
    """
    assert [(row["step"], row["split"]) for row in real] == [(row["step"], row["split"]) for row in virtual]
    found: dict[str, float] = {}
    for one, other in zip(real, virtual, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if key.endswith(("_ms", "_per_s", "_time_s")) or not isinstance(value, int | float):
                continue
            name = f"validation {key}" if one["split"] == "val" and key.startswith("loss") else key
            apart = abs(value - other[key]) / max(1.0, abs(value))
            found[name] = max(found.get(name, 0.0), apart)
    return found


def compare(case: Case, runs_dir: Path) -> dict[str, float]:
    """Train a case both ways by ``sgp-train``, and return the differences of the rows."""
    real, virtual = (call_sgp_train(case, STEPS, runs_dir, virtual=virtual) for virtual in (False, True))
    assert real[0] == virtual[0], "one experiment has one run id"
    return difference(real[1], virtual[1])


def compare_all(cases: Sequence[Case], runs_dir: Path) -> int:
    """Compare all cases, print a line for each, and return the exit code."""
    worst, failures = 0.0, 0
    with ThreadPoolExecutor(TOGETHER) as pool:
        compared = [pool.submit(compare, case, runs_dir) for case in cases]
        for number, (case, found) in enumerate(zip(cases, compared, strict=True), start=1):
            try:
                apart = found.result()
            except (AssertionError, RuntimeError) as error:
                failures += 1
                print(f"{number}/{len(cases)}  FAILED  {json.dumps(case)}  {error!r}", flush=True)
                continue
            worst = max(worst, apart["loss"])
            others = {key: value for key, value in apart.items() if value > CLOSE and key != "loss"}
            print(f"{number}/{len(cases)}  {apart['loss']:.1e}  {json.dumps(case)}  {others or ''}", flush=True)
    print(f"{len(cases)} cases, {failures} failed, largest difference of a training loss {worst:.1e}")
    return int(failures > 0 or worst > CLOSE)


def main(arguments: Sequence[str]) -> int:
    """Compare the cases that have all words among ``arguments``."""
    folders = [word.removeprefix("runs_dir=") for word in arguments if word.startswith("runs_dir=")]
    chosen = {word for word in arguments if not word.startswith("runs_dir=")}
    cases = [case for case in matrix() if chosen <= set(words(case, STEPS, virtual=False))]
    with tempfile.TemporaryDirectory() as scratch:
        return compare_all(cases, Path((folders or [scratch])[-1]).absolute())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
