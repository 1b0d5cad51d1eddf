"""``sgp`` beside a real SLURM: runs are found in their queue, followed through a requeue, and cancelled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.commands.app import main
from launcher.run_folder import RunFolder
from tests.slurm.lab import Lab
from tests.slurm.training import job_of, train, until, until_gone, until_status, until_step

LONG = ("cluster.threads_per_worker=1", "training.epochs=1000", "training.max_steps=20000", "tracker=none")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ask(work: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Call ``sgp`` and return what it answers."""

    def call(*arguments: str) -> Any:
        capsys.readouterr()
        main([*arguments, "--json"])
        return json.loads(capsys.readouterr().out)

    return call


def test_an_array_is_watched_and_its_runs_are_cancelled_one_by_one(
    lab: Lab, work: Path, ask: Callable[..., Any]
) -> None:
    assert (
        train("-m", "cluster=slurm", "cluster.workers_per_node=2", "cluster.array_parallelism=1", "seed=1,2,3", *LONG)
        == 0
    )
    [sweep] = os.listdir(work / "runs" / "sweeps")
    first, second, third = (run["run_id"] for run in ask("status", sweep)["runs"])
    until_step(RunFolder(work / "runs" / first), 1, 20)
    states = {run["run_id"]: run["state"] for run in ask("runs", "--sweep", sweep)}
    assert states == {first: "running", second: "queued", third: "queued"}
    shown = ask("status", first)
    assert shown["job_state"] == "RUNNING"
    assert [worker["status"] for worker in shown["workers"]] == ["training"] * 2
    assert {worker["host"] for worker in shown["workers"]} == {shown["nodes"]}

    [answer] = ask("cancel", second)["runs"]
    assert answer["result"].startswith("cancelled before job ")
    assert ask("status", sweep)["states"] == {"running": 1, "cancelled": 1, "queued": 1}
    ask("cancel", first)
    until_status(RunFolder(work / "runs" / first), "cancelled")
    until_step(RunFolder(work / "runs" / third), 1, 1)  # has its turn
    ask("cancel", sweep)
    until(lambda: ask("status", sweep)["states"] == {"cancelled": 3}, "all cancelled")
    until_gone(lab, RunFolder(work / "runs" / third))
    assert not list(work.glob("runs/*/cancel"))


def test_a_log_is_followed_through_a_requeue(lab: Lab, work: Path, ask: Callable[..., Any]) -> None:
    assert train("cluster=slurm", "cluster.workers_per_node=1", "topology=complete", *LONG) == 0
    [run] = ask("runs")
    folder = RunFolder(work / "runs" / run["run_id"])
    until_step(folder, 1, 20)
    follower = subprocess.Popen(
        [sys.executable, "-m", "launcher.commands.app", "logs", run["run_id"], "--follow"],
        cwd=work,
        stdout=subprocess.PIPE,
        text=True,
    )
    heard: list[str] = []
    listener = threading.Thread(target=lambda: heard.extend(follower.stdout or ()))
    listener.start()
    try:
        lab.run("scontrol", "requeue", job_of(folder))
        until_step(folder, 2, 1)
        assert ask("status", run["run_id"])["attempt"] == 2
        assert follower.poll() is None
        ask("cancel", run["run_id"])
        until_status(folder, "cancelled")
        assert follower.wait(30) == 0
        listener.join(10)
    finally:
        follower.kill()
    assert "".join(heard) == "".join(line + "\n" for line in ask("logs", run["run_id"])["logs"][0]["lines"])
