"""Loss by steps: trainings of virtual workers, through ``sgp-train``; those that are there are not repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.map.tasks import Rule, Task


@dataclass(frozen=True)
class Training:
    """A training that is wanted: a rule at a learning rate, and more settings."""

    rule: Rule
    rate: float
    more: tuple[str, ...] = ()
    mark: str = ""
    """What tells its folder from that of the same rule with other settings."""


@dataclass(frozen=True)
class Curve:
    """What a training has shown.

    Attributes:
        points: step, score on the validation data, virtual seconds if there were any.
        spec: what its run folder records of it.
    """

    points: list[tuple[int, float, float | None]]
    spec: dict[str, Any]

    def steps_to(self, target: float) -> int | None:
        """Return after how many steps the score was first at the target, as far as it was looked at."""
        return next((step for step, score, _ in self.points if score <= target), None)

    def seconds_to(self, target: float) -> float | None:
        """Return the virtual time of that."""
        return next((seconds for _, score, seconds in self.points if score <= target), None)


class Curves:
    """Trains, and keeps, by task in a folder of its own.

    Args:
        name, task: what is trained.
        workers: how many.
        data: its ``dataset.path``; None: it needs none.
        folder: for all run folders.
    """

    def __init__(self, name: str, task: Task, workers: int, data: Path | None, folder: Path) -> None:
        self._task = task
        self._folder = folder / f"{name}-{workers}"
        self._words = [
            *task.words,
            *([f"dataset.path={data}"] if data is not None else []),
            "cluster=simulator",
            f"cluster.workers={workers}",
            "cluster.threads_per_worker=1",
            f"training.max_steps={task.most_steps}",
            "training.epochs=1000",
            f"callbacks=[{{name:stop_at,score:{task.target}}}]",
            f"evaluation.every_steps={task.every}",
            "evaluation.every_epochs=0",
            "checkpoint.every_epochs=0",
            "checkpoint.keep_best=false",
            f"log_every={task.every}",
            "tracker=none",
        ]

    def train(self, wanted: Sequence[Training]) -> list[Curve]:
        """Return the curve of each, one training at a time on each core."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self._train, wanted))

    def best(self, rules: Iterable[Rule], rates: Sequence[float]) -> dict[str, Curve]:
        """Return, for each rule, the curve at the learning rate with which it is at the target first."""
        wanted = [Training(rule, rate * rule.slower) for rule in rules for rate in rates]
        best: dict[str, Curve] = {}
        for training, curve in zip(wanted, self.train(wanted), strict=True):
            name = training.rule.name
            if name not in best or self._order(curve) < self._order(best[name]):
                best[name] = curve
        return best

    def _order(self, curve: Curve) -> tuple[float, float]:
        """Sort by steps to the target, and by the score in the end where it is not reached."""
        steps = curve.steps_to(self._task.target)
        return (steps or float("inf"), curve.points[-1][1])

    def _train(self, training: Training) -> Curve:
        folder = self._folder / f"{training.rule.name.replace('/', '-')}-{training.rate:g}{training.mark}"
        words = [*self._words, *training.rule.words, f"optimizer.lr={training.rate}", *training.more]
        if (curve := read(folder, self._task.score)) is None:
            command = [sys.executable, "-m", "launcher.cli.train", *words, f"runs_dir={folder}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
            curve = read(folder, self._task.score)
            assert curve is not None
        last = curve.points[-1]
        print(f"  {training.rule.name:<24} {training.rate:g}{training.mark}: {last[1]:.3f} after {last[0]}", flush=True)
        return curve


def read(folder: Path, score: str = "loss") -> Curve | None:
    """Return the curve of a score of the run in a folder; None if none has ended there."""
    for summary in folder.glob("*/summary.json"):
        if json.loads(summary.read_text(encoding="utf-8"))["status"] == "completed":
            rows = map(json.loads, (summary.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
            points = [(row["step"], row[score], row.get("virtual_time_s")) for row in rows if row["split"] == "val"]
            return Curve(points, json.loads((summary.parent / "spec.json").read_text(encoding="utf-8")))
    return None
