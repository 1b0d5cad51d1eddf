"""TensorBoard and MLflow hold every row of the record, each step once, and their troubles are not the run's."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sgp_core.tracking import JsonlTracker, MlflowTracker, Row, TensorBoardTracker, read_rows
from sgp_core.tracking.mirror import Mirror
from tests.support import mirrors
from tests.support.workers import _CONTEXT

CONFIG = {
    "experiment": {"algorithm": {"name": "sgp", "overlap_steps": 1}, "seed": 3, "world_size": 2},
    "provenance": {"git": {"sha": "abc"}},
}
MAKERS = (TensorBoardTracker, MlflowTracker)


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """No server in the environment."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def row(step: int, split: str = "train") -> Row:
    scores = {"accuracy": 1 - 1 / step, "consensus_distance": 0.1} if split == "val" else {"consensus_distance": None}
    return {"step": step, "epoch": step / 4, "split": split, "loss": 1 / step, "wall_time_s": step / 2, **scores}


def train(directory: Path, after: int, steps: range, *, pause: float = 0.0) -> list[Mirror]:
    """Train from one step to another; return the mirrors, which are not closed."""
    opened = [make("run7", directory, config=CONFIG) for make in MAKERS]
    trackers = [JsonlTracker(directory / "metrics.jsonl"), *opened]
    for tracker in trackers:
        tracker.resume(after)
    for step in steps:
        for split in ("train", "val") if step % 4 == 0 else ("train",):
            for tracker in trackers:
                tracker.log(row(step, split))
        time.sleep(pause)
    return opened


def attempt(directory: Path, after: int, upto: int, status: str) -> None:
    opened = train(directory, after, range(after + 1, upto + 1))
    summary = {"final": row(upto, "val"), "best": row(4, "val")}
    for mirror in opened:
        mirror.conclude(status, summary)
    for mirror in opened:
        mirror.finish(status, summary)
        assert mirror.trouble is None


def check(directory: Path) -> None:
    """Compare both mirrors with the record."""
    wanted = mirrors.of_record(directory / "metrics.jsonl")
    _, held = mirrors.mlflow_run(directory, (directory / "mlruns").as_uri())
    assert mirrors.rows_only(held) == wanted
    held = mirrors.rows_only(mirrors.of_tensorboard(directory))
    assert {name: [step for step, _ in points] for name, points in held.items()} == {
        name: [step for step, _ in points] for name, points in wanted.items()
    }
    for name, points in wanted.items():  # 32-bit floats
        assert [value for _, value in held[name]] == pytest.approx([value for _, value in points], rel=1e-6)


def test_a_run_that_was_preempted_twice_has_every_step_once(tmp_path):
    for after, upto, status in ((0, 7, "preempted"), (4, 10, "preempted"), (8, 13, "completed")):
        attempt(tmp_path, after, upto, status)
        assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    check(tmp_path)
    run, curves = mirrors.mlflow_run(tmp_path, (tmp_path / "mlruns").as_uri())
    assert (run.info.status, run.data.tags["status"], run.data.tags["run_id"]) == ("FINISHED", "completed", "run7")
    assert run.data.tags["mlflow.source.git.commit"] == "abc"
    assert (run.data.params["algorithm"], run.data.params["algorithm.overlap_steps"]) == ("sgp", "1")
    assert curves["best/accuracy"] == [(4, 0.75)]
    assert curves["final/loss"] == [(13, 1 / 13)]
    assert mirrors.of_tensorboard(tmp_path)["best/accuracy"] == [(4, 0.75)]


def train_for_ever(directory: str, after: int) -> None:
    train(Path(directory), after, range(after + 1, 1_000_000), pause=0.01)


def test_killed_while_they_write_and_resumed_they_have_every_step_once(tmp_path):
    record, tensorboard, mlflow = tmp_path / "metrics.jsonl", tmp_path / "tensorboard", tmp_path / "mlflow.json"
    process = _CONTEXT.Process(target=train_for_ever, args=(str(tmp_path), 0))
    process.start()
    while not (mlflow.exists() and any(tensorboard.glob("*"))):
        time.sleep(0.01)
    time.sleep(0.5)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    checkpoint = read_rows(record)[-1]["step"] * 2 // 3
    upto = read_rows(record)[-1]["step"] + 5
    attempt(tmp_path, checkpoint, upto, "completed")
    assert [one["step"] for one in read_rows(record) if one["split"] == "train"] == list(range(1, upto + 1))
    check(tmp_path)


def test_points_keep_the_distances_in_time_that_they_had_in_training(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    attempt(tmp_path, 0, 3, "preempted")
    attempt(tmp_path, 3, 6, "completed")
    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    times = [one.wall_time for one in reader.Scalars("train/loss")]
    assert [later - times[0] for later in times] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5], abs=1e-3)


@pytest.mark.parametrize(
    ("make", "package", "extra"),
    [
        (TensorBoardTracker, "tensorboard.summary.writer.event_file_writer", "tensorboard"),
        (MlflowTracker, "mlflow", "mlflow"),
    ],
)
def test_a_missing_package_costs_one_warning_that_says_how_to_install_it(
    tmp_path, monkeypatch, caplog, make, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    mirror = make("run7", tmp_path)
    mirror.resume(0)
    mirror.log(row(1))
    mirror.finish("completed", {})
    [said] = [one.getMessage() for one in caplog.records]
    assert f"{mirror.title} is off for this run" in said
    assert f"pip install 'stochastic-gradient-push[{extra}]'" in said
    assert not mirror.active


class Stuck(Mirror):
    """A mirror that never gets on."""

    title = "Stuck"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "metrics.jsonl", 0.5)

    def _open(self) -> None:
        threading.Event().wait(30)

    def _write(self, row: Row) -> None:
        raise AssertionError("it is not open")

    def _close(self, status: str, summary: dict[str, Any]) -> None:
        raise AssertionError("it is not open")


def test_several_that_hang_hold_the_end_no_longer_than_one(tmp_path):
    stuck = [Stuck(tmp_path) for _ in range(20)]
    for mirror in stuck:
        mirror.log(row(1))
    began = time.monotonic()
    for mirror in stuck:
        mirror.conclude("completed", {})
    for mirror in stuck:
        mirror.finish("completed", {})
    assert time.monotonic() - began < 9  # one after the other would take 10 s
    assert {mirror.trouble for mirror in stuck} == {"not finished after 0.5 s"}


def test_a_run_that_was_deleted_in_mlflow_gets_another_with_the_whole_record(tmp_path):
    attempt(tmp_path, 0, 5, "preempted")
    uri = (tmp_path / "mlruns").as_uri()
    first, _ = mirrors.mlflow_run(tmp_path, uri)
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=uri).delete_run(first.info.run_id)
    attempt(tmp_path, 5, 8, "completed")
    assert mirrors.mlflow_run(tmp_path, uri)[0].info.run_id != first.info.run_id
    check(tmp_path)
