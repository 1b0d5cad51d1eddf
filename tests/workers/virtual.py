"""The same experiments with processes and with virtual workers, in float64: ``python -m tests.workers.virtual``.

As a script it runs every algorithm with every outer that it goes with, and more, for 100 steps on 8 workers each, and
prints how far apart the losses are.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sgp_core.algorithms import ALGORITHMS, OUTERS
from sgp_core.errors import ConfigurationError
from sgp_core.tasks.images.models import ImageModel
from sgp_core.tasks.losses import LOSSES, Loss
from sgp_core.tasks.models import MODELS
from sgp_core.topology import TOPOLOGIES
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment
from sgp_core.training.experiment import build_parts
from sgp_core.training.loop import train
from sgp_core.training.virtual.world import VirtualWorld
from tests.workers.agreement import Lopsided

WORKERS, STEPS, TOGETHER = 8, 100, 6
Case = dict[str, Any]
CPU = torch.device("cpu")


class _Double(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.double()


@dataclass(frozen=True)
class DoubleMlp(ImageModel):
    """A perceptron in float64."""

    dropout: float = 0.0

    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        layers = [nn.Linear(prod(example), 16), nn.Tanh(), nn.Linear(16, num_classes)]
        middle = [nn.BatchNorm1d(16), nn.Dropout(self.dropout)] if self.dropout else []
        return nn.Sequential(nn.Flatten(), _Double(), layers[0], *middle, *layers[1:]).double()


@dataclass(frozen=True)
class DoubleLoss(Loss):
    """Cross entropy in float64."""

    task = "images"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


@contextlib.contextmanager
def doubles() -> Iterator[None]:
    """Register the model, the loss and an irregular graph for the time of a block."""
    MODELS.register("double_mlp")(DoubleMlp)
    LOSSES.register("double_loss")(DoubleLoss)
    TOPOLOGIES.register("lopsided")(Lopsided)
    try:
        yield
    finally:
        MODELS.remove("double_mlp")
        LOSSES.remove("double_loss")
        TOPOLOGIES.remove("lopsided")


def experiment(case: Case, steps: int) -> Experiment:
    """Return a case as an experiment."""
    values: dict[str, Any] = {
        "model": {"name": "double_mlp"},
        "dataset": {"name": "digits"},
        "loss": {"name": "double_loss"},
        "topology": {"name": "one_peer_exponential"},
        "algorithm": {"name": "sgp"},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "schedule": {"name": "constant"},
        "world_size": WORKERS,
        **case,
    }
    training = {"epochs": 100, "max_steps": steps, "batch_size": 16, **case.get("training", {})}
    return Experiment.from_dict({**values, "training": training})


def run(case: Case, steps: int, directory: Path, *, virtual: bool) -> list[dict[str, Any]]:
    """Train, and return rank 0's rows."""
    leads = virtual or dist.get_rank() == 0
    trackers = [JsonlTracker(directory / "metrics.jsonl")] if leads else []
    train(
        experiment(case, steps),
        directory=directory,
        device=CPU,
        evaluation=EvaluationConfig(model="both", every_epochs=2, consensus_every=20),
        checkpoint=CheckpointConfig(every_epochs=0),
        log_every=1,
        trackers=trackers,
        virtual=VirtualWorld() if virtual else None,
    )
    for tracker in trackers:
        tracker.finish("completed", {})
    return read_rows(directory / "metrics.jsonl") if leads else []


def run_processes(cases: Sequence[Case], steps: int, folder: str) -> list[list[dict[str, Any]]]:
    """Train all cases as one worker of a group; return rank 0's rows."""
    torch.set_num_threads(1)
    with doubles():
        return [run(case, steps, Path(folder, str(number)), virtual=False) for number, case in enumerate(cases)]


def run_virtual(cases: Sequence[Case], steps: int, folder: str) -> list[list[dict[str, Any]]]:
    """Train all cases with virtual workers."""
    with doubles():
        return [run(case, steps, Path(folder, f"v{number}"), virtual=True) for number, case in enumerate(cases)]


def difference(real: list[dict[str, Any]], virtual: list[dict[str, Any]]) -> dict[str, float]:
    """Return the largest difference of each number that both have, relative to 1 or the number."""
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
                with doubles():
                    build_parts(experiment(case, 1))
            except ConfigurationError:
                continue
            cases.append(case)
    return [*cases, *MORE]


MORE: list[Case] = [
    {"topology": {"name": "lopsided"}},
    {"topology": {"name": "lopsided"}, "algorithm": {"name": "sgp", "overlap_steps": 2}},
    {"algorithm": {"name": "osgp"}, "topology": {"name": "lopsided"}, "outer": {"name": "slowmo", "tau": 7}},
    {"compression": {"name": "int8"}, "topology": {"name": "ring"}},
    {"pace": {"name": "every", "steps": 3}, "optimizer": {"name": "adamw", "lr": 0.01}},
    {"node_size": 2, "training": {"clip_norm": 0.5}},
    {"training": {"accumulation_steps": 3, "clip_norm": 0.5}, "model": {"name": "double_mlp", "dropout": 0.2}},
    {"partition": {"name": "dirichlet", "alpha": 0.5}, "algorithm": {"name": "allreduce"}},
]
"""Weights that leave 1, messages in flight, codes, paces, node groups, clipping, dropout, BatchNorm, unequal shares."""


def main() -> int:
    """Run the whole matrix and print a line for each case."""
    from tests.support.workers import run_workers

    cases, worst = matrix(), 0.0
    for begin in range(0, len(cases), TOGETHER):
        some = cases[begin : begin + TOGETHER]
        with tempfile.TemporaryDirectory() as folder:
            real = run_workers(WORKERS, run_processes, some, STEPS, folder)[0]
            virtual = run_virtual(some, STEPS, folder)
        for case, rows, simulated in zip(some, real, virtual, strict=True):
            apart = difference(rows, simulated)
            worst = max(worst, apart["loss"])
            others = {key: value for key, value in apart.items() if value > 1e-10 and key != "loss"}
            print(f"{apart['loss']:.1e}  {case}  {others or ''}", flush=True)
    print(f"{len(cases)} cases, largest difference of a training loss {worst:.1e}")
    return int(worst > 1e-10)


if __name__ == "__main__":
    sys.exit(main())
