"""How jobs end when they are not to come back, and who is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import read_json
from tests.slurm.lab import Lab
from tests.slurm.training import job_of, rows, run_of, train, until_gone, until_status, until_step

ENDLESS = ("training.epochs=100000", "evaluation.every_epochs=50", "checkpoint.every_epochs=50", "tracker=none")
TWO = ("cluster=slurm", "cluster.nodes=2", "cluster.workers_per_node=1")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scancel_saves_and_is_final_until_the_command_is_given_again(lab: Lab, work: Path) -> None:
    assert train(*TWO, *ENDLESS) == 0
    folder = run_of(work / "runs")
    until_step(folder, 1, 30)
    lab.run("scancel", job_of(folder))
    summary = until_status(folder, "cancelled")
    until_gone(lab, folder)
    assert lab.job(job_of(folder)).state == "CANCELLED"
    step = summary["steps"]
    assert read_json(folder.path / "checkpoints" / f"step-{step}" / "manifest.json")

    assert train(*TWO, *ENDLESS) == 0
    until_step(folder, 2, step + 10)
    assert [row["step"] for row in rows(folder) if row["split"] == "train"][: step // 10 + 1] == list(
        range(10, step + 20 - step % 10, 10)
    )
    assert (read_json(folder.summary) or {})["status"] == "running"


def test_a_killed_worker_ends_the_job_and_is_named(lab: Lab, work: Path) -> None:
    assert train(*TWO, *ENDLESS) == 0
    folder = run_of(work / "runs")
    until_step(folder, 1, 30)
    lab.kill_task(job_of(folder), 1)
    summary = until_status(folder, "failed")
    assert (summary["error"]["rank"], summary["error"]["type"]) == (1, "WorkerDied")
    assert Path(summary["error"]["log"]).name == f"{job_of(folder)}_1_log.out"
    assert summary["steps"] >= 30
    until_gone(lab, folder)
    assert lab.job(job_of(folder)).restarts == 0


def test_a_worker_that_raises_is_named_by_its_own_error(lab: Lab, work: Path) -> None:
    assert train(*TWO, *ENDLESS, "debug.fail_rank=1", "debug.fail_step=7") == 0
    folder = run_of(work / "runs")
    summary = until_status(folder, "failed")
    assert (summary["error"]["rank"], summary["error"]["type"]) == (1, "FailedOnPurpose")


def test_only_the_element_of_an_array_that_is_asked_comes_back(lab: Lab, work: Path) -> None:
    array = ("-m", "seed=1,2,3", "cluster=slurm", "cluster.workers_per_node=1", *ENDLESS)
    assert train(*array) == 0
    [sweep] = (work / "runs" / "sweeps").iterdir()
    points = [point["run_id"] for point in json.loads((sweep / "sweep.json").read_text())["points"]]
    folders = [RunFolder(work / "runs" / point) for point in points]
    for folder in folders:
        until_step(folder, 1, 10)
    last = folders[-1]  # its job has the number of the array
    lab.run("scancel", "--signal=USR2", job_of(last))
    until_step(last, 2, 10)
    assert [folder.next_attempt() - 1 for folder in folders] == [1, 1, 2]
    assert [lab.job(job_of(folder)).restarts for folder in folders] == [0, 0, 1]
