"""Whole runs in processes of their own: what they leave behind, on disk and in the process table."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.launched import Launched, read
from tests.support.waiting import wait_until

Launch = Callable[..., Launched]
LONG = (
    *("training.epochs=10000", "checkpoint.every_steps=10", "checkpoint.every_epochs=0"),
    *("tracker=none", "loader.processes=1"),
)
"""A run that does not end by itself, with checkpoints to return to, and a process more for each worker."""


def only_run(launched: Launched) -> Path:
    [run] = launched.directory.glob("runs/*")
    return run


def test_a_run_completes_once(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGP_TEST_SECRET", "secret-4711")
    first = launch("experiment=smoke", "training.epochs=1")
    said = first.finish()
    assert (said.code, said.err) == (0, "")
    assert first.left() == []
    run = only_run(first)
    for printed in ("step 23/23", "validation accuracy", "consensus distance", "time per step", f"runs/{run.name}"):
        assert printed in said.out
    assert f"sgp sync runs/{run.name}\n" in said.out
    for rank in range(2):  # its own lines, none of submitit's
        [log] = run.glob(f"logs/attempt-1/*_{rank}_log.out")
        lines = log.read_text().splitlines()
        assert lines[0].startswith(f"worker {rank} of 2, attempt 1, process ")
        assert re.fullmatch(r"step 10/23  epoch 0\.43  loss \S+  \S+ ms/step", lines[1])
        assert lines[-2:] == [
            f"step 23/23  epoch 1.00  {lines[-2].partition('1.00  ')[2]}",
            f"worker {rank}: completed after 23 steps",
        ]
        assert "validation loss" in lines[-2]

    summary, spec = read(run / "summary.json"), read(run / "spec.json")
    assert (summary["status"], summary["steps"], summary["error"]) == ("completed", 23, None)
    assert summary["run_id"] == spec["run_id"] == run.name
    assert summary["sync_command"].startswith("wandb sync ")
    assert [read(run / f"rank-{rank}.json")["status"] for rank in range(2)] == ["completed"] * 2
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == [10, 20, 23]
    assert {"command", "host", "python", "versions", "git"} <= set(spec["provenance"])
    assert spec["provenance"]["command"] == "sgp-train experiment=smoke training.epochs=1"
    assert "torch==" in (run / "packages.txt").read_text()
    records = [path for path in run.rglob("*") if path.suffix in (".json", ".txt", ".out", ".diff", ".pkl")]
    assert not [path for path in records if b"secret-4711" in path.read_bytes()]

    again = launch("experiment=smoke", "training.epochs=1", "log_every=1").finish()
    assert again.code == 0
    assert "is complete already" in again.out
    assert "validation accuracy" in again.out
    assert read(run / "summary.json") == summary


def test_nodes_can_be_tried_on_one_machine(launch: Launch) -> None:
    nodes = ("algorithm.unit=node", "cluster.nodes=2", "cluster.workers_per_node=2")
    launched = launch(*nodes, "tracker=none", "training.epochs=3", "topology=ring")
    assert launched.finish().code == 0
    run = only_run(launched)
    final, parameters = read(run / "summary.json")["final"], (64 + 1) * 256 + (256 + 1) * 10
    assert final["accuracy"] > 0.9
    assert final["bytes_sent"] == final["step"] * parameters * 4 / 2
    assert final["peak_step_bytes"] == parameters * 4 / 2
    assert {path.name for path in run.glob("rank-*.json")} == {f"rank-{rank}.json" for rank in range(4)}


def test_a_worker_that_raises_ends_the_run_which_can_be_resumed(launch: Launch) -> None:
    usual = ("experiment=smoke", "tracker=none", "training.epochs=1", "checkpoint.every_steps=5")
    failing = launch(*usual, "debug.fail_rank=1", "debug.fail_step=17")
    said = failing.finish()
    assert said.code == 1
    assert failing.left() == []
    run = only_run(failing)
    assert "Traceback" in said.err
    assert "worker 1 failed: FailedOnPurpose: debug.fail_rank=1, debug.fail_step=17" in said.err
    summary = read(run / "summary.json")
    assert summary["status"] == "failed"
    assert (summary["error"]["rank"], summary["error"]["type"]) == (1, "FailedOnPurpose")
    log = Path(summary["error"]["log"])
    assert os.path.relpath(log, failing.directory) in said.err
    assert "FailedOnPurpose" in log.read_text()

    resumed = launch(*usual)
    assert resumed.finish().code == 0
    assert "resuming in" in (resumed.directory / "out").read_text()
    assert only_run(resumed) == run
    summary = read(run / "summary.json")
    assert (summary["status"], summary["steps"], summary["error"]) == ("completed", 23, None)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 23, 23]


def test_one_of_three_workers_killed_ends_the_run(launch: Launch) -> None:
    launched = launch(*LONG, "cluster.workers_per_node=3")
    run = launched.until_training(workers=3)
    os.kill(read(run / "rank-2.json")["pid"], signal.SIGKILL)
    said = launched.finish()
    assert said.code == 1
    assert launched.left() == []
    assert "worker 2 failed: WorkerDied" in said.err
    assert f"runs/{run.name}/logs/attempt-1/" in said.err
    summary = read(run / "summary.json")
    assert (summary["status"], summary["error"]["rank"]) == ("failed", 2)


def test_interrupted_then_resumed_then_abandoned(launch: Launch) -> None:
    two = (*LONG, "cluster.workers_per_node=2")
    launched = launch(*two)
    run = launched.until_training(workers=2)
    os.killpg(launched.process.pid, signal.SIGINT)  # as a terminal does: to everybody in the foreground
    said = launched.finish()
    assert said.code == 130
    assert launched.left() == []
    assert "Traceback" not in said.err
    summary = read(run / "summary.json")
    assert summary["status"] == "cancelled"
    assert [read(run / f"rank-{rank}.json")["status"] for rank in range(2)] == ["preempted"] * 2

    resumed = launch(*two)
    assert resumed.until_training(workers=2) == run
    assert "resuming in" in (resumed.directory / "out").read_text()
    assert read(run / "summary.json")["status"] == "running"
    said = launch(*two).finish()
    assert said.code == 3
    assert f"is being run by process {resumed.process.pid} on " in said.err
    assert len(said.err.splitlines()) == 1

    resumed.process.kill()  # no chance to clean up: the workers have to notice
    resumed.process.wait()
    wait_until(lambda: not resumed.left(), "the end of the workers")


def test_asked_to_end_a_run_saves_and_says_so(launch: Launch) -> None:
    launched = launch(*LONG, "cluster.workers_per_node=1")
    run = launched.until_training(workers=1)
    launched.process.terminate()
    assert launched.finish().code == 143
    assert launched.left() == []
    summary = read(run / "summary.json")
    assert summary["status"] == "preempted"
    assert read(run / "checkpoints" / f"step-{summary['steps']}" / "manifest.json")


def test_a_mistake_only_a_worker_can_see_is_told_without_traceback(launch: Launch, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "picture.jpg").write_bytes(b"this is no picture")
    launched = launch("debug=default", "dataset=image_folder", f"dataset.path={tmp_path / 'images'}")
    said = launched.finish()
    assert said.code == 2
    assert said.err.startswith("sgp-train: ")
    assert len(said.err.splitlines()) <= 5
    assert read(only_run(launched) / "summary.json")["status"] == "failed"


def test_a_sweep_runs_every_point_though_one_fails_all_inline(launch: Launch) -> None:
    launched = launch("-m", "debug=default", "training.max_steps=5,2", "debug.fail_rank=0", "debug.fail_step=3")
    said = launched.finish()
    assert said.code == 1
    assert "worker 0 failed: FailedOnPurpose" in said.err
    assert "1 of 2 runs ok" in said.out
    runs = list(launched.directory.glob("runs/[0-9a-f]*"))
    assert [read(run / "rank-0.json")["pid"] for run in runs] == [launched.process.pid] * 2
    assert list(launched.directory.rglob("*.pkl")) == []
    summaries = [read(run / "summary.json") for run in runs]
    assert sorted((summary["status"], summary["steps"]) for summary in summaries) == [("completed", 2), ("failed", 2)]
