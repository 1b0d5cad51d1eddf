"""A run with three mirrors whose worker is killed: they hold every row of the record once it has gone on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sgp_core.tracking import read_rows
from tests.support import mirrors
from tests.support.launched import Launched, read
from tests.support.waiting import wait_until
from tests.support.wandb_files import stored

LONG = (
    *("tracker=[wandb,tensorboard,mlflow]", "tracker.project=gossip", "tracker.finish_timeout_s=60"),
    *("cluster.workers_per_node=1", "training.epochs=10000", "model.hidden=[4]"),
    *("checkpoint.every_steps=10", "checkpoint.every_epochs=0", "log_every=5"),
    "faults=[stall every=1 seconds=0.02]",
)
"""A run that does not end by itself, slow enough for files that a test waits for."""


def last_step(run: Path) -> int:
    return int(read_rows(run / "metrics.jsonl")[-1]["step"])


def test_a_killed_and_continued_run_is_whole_in_every_mirror(
    launch: Callable[..., Launched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    killed = launch(*LONG)
    run = killed.until_training(workers=1)
    places = (run / "mlflow.json", run / "tensorboard", run / "wandb")
    wait_until(lambda: all(place.exists() for place in places), "all mirrors")
    begun = last_step(run)
    wait_until(lambda: last_step(run) > begun + 20 and any(run.glob("checkpoints/*/manifest.json")), "rows to lose")
    os.kill(read(run / "rank-0.json")["pid"], signal.SIGKILL)
    assert killed.finish().code == 1

    reached = last_step(run)
    continued = launch(*LONG)
    assert continued.until_training(workers=1) == run
    wait_until(lambda: last_step(run) > reached + 20, "more rows")
    continued.process.terminate()
    assert continued.finish().code == 143
    assert read(run / "rank-0.json")["status"] == "preempted"

    wanted = mirrors.of_record(run / "metrics.jsonl")
    steps = [step for step, _ in wanted["epoch"]]
    assert steps == sorted(set(steps))
    _, held = mirrors.mlflow_run(run, (run.parent / "mlruns").as_uri())
    assert {name: [step for step, _ in points] for name, points in held.items()} == {
        name: [step for step, _ in points] for name, points in wanted.items()
    }
    assert held["train/loss"] == wanted["train/loss"]  # also of the steps that were trained twice
    shown = mirrors.rows_only(mirrors.of_tensorboard(run))
    for name, points in wanted.items():
        assert [step for step, _ in shown[name]] == [step for step, _ in points]
        assert [value for _, value in shown[name]] == pytest.approx([value for _, value in points], rel=1e-6)
    lines = stored(run, run.name)["lines"]
    assert [line["_step"] for line in lines] == steps
    losses = [(line["_step"], line["train/loss"]) for line in lines if "train/loss" in line]
    assert losses == wanted["train/loss"]
