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

from launcher.cli.sgp import main
from launcher.runs.run_folder import RunFolder
from tests.slurm.lab import Lab
from tests.slurm.training import job_of, train, until_gone, until_status, until_step
from tests.support.waiting import wait_until

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
    wait_until(lambda: ask("status", sweep)["states"] == {"cancelled": 3}, "all cancelled")
    until_gone(lab, RunFolder(work / "runs" / third))
    assert not list(work.glob("runs/*/cancel"))


def test_a_log_is_followed_through_a_requeue(lab: Lab, work: Path, ask: Callable[..., Any]) -> None:
    assert train("cluster=slurm", "cluster.workers_per_node=1", "topology=complete", *LONG) == 0
    [run] = ask("runs")
    folder = RunFolder(work / "runs" / run["run_id"])
    until_step(folder, 1, 20)
    follower = subprocess.Popen(
        [sys.executable, "-m", "launcher.cli.sgp", "logs", run["run_id"], "--follow"],
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
        said = "".join(path.read_text() for path in folder.path.rglob("*_log.out"))
        assert "attempt 1: preempted, requeued" in said  # not cancelled, until it starts again
        assert follower.poll() is None
        ask("cancel", run["run_id"])
        until_status(folder, "cancelled")
        assert follower.wait(30) == 0
        listener.join(10)
    finally:
        follower.kill()
    assert "".join(heard) == "".join(line + "\n" for line in ask("logs", run["run_id"])["logs"][0]["lines"])


def test_cancelled_jobs_go_on_as_an_array_of_their_sweep(lab: Lab, work: Path, ask: Callable[..., Any]) -> None:
    short = (*LONG, "training.max_steps=1500", "cluster.workers_per_node=1", "topology=complete", "seed=1,2")
    assert train("-m", "cluster=slurm", *short) == 0
    [sweep] = os.listdir(work / "runs" / "sweeps")
    folders = [RunFolder(work / "runs" / run["run_id"]) for run in ask("status", sweep)["runs"]]
    for folder in folders:
        until_step(folder, 1, 20)
    ask("cancel", sweep)
    for folder in folders:
        until_status(folder, "cancelled")
        until_gone(lab, folder)
    before = [job_of(folder) for folder in folders]
    record = (work / "runs" / "sweeps" / sweep / "sweep.json").read_text()

    assert [run["result"] for run in ask("resume", sweep)["runs"]] == ["resumed", "resumed"]
    jobs = [job_of(folder) for folder in folders]
    assert [job.partition("_")[2] for job in jobs] == ["0", "1"]
    assert not set(jobs) & set(before)
    assert main(["resume", sweep]) == 0  # they live: nothing to do
    assert [job_of(folder) for folder in folders] == jobs
    for folder in folders:
        summary = until_status(folder, "completed")
        assert (summary["steps"], folder.next_attempt()) == (1500, 3)
        assert min(row["step"] for row in map(json.loads, folder.progress(2).read_text().splitlines())) > 20
        until_gone(lab, folder)
    assert (work / "runs" / "sweeps" / sweep / "sweep.json").read_text() == record
