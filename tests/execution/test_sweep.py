"""Which points of a sweep are started, what is remembered of it, and what a dry run shows without doing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.runs.sweep import tell_apart
from tests.support.launched import Said, read
from tests.support.sgp_command import Said as Answer

Train = Callable[..., Said]
QUICK = ("cluster=inline", "tracker=none", "training.max_steps=2", "evaluation.every_epochs=0", "log_every=2")


def sweep_of(here: Path) -> dict[str, object]:
    [record] = here.glob("runs/sweeps/*/sweep.json")
    return read(record)


def test_a_sweep_is_remembered_and_what_is_complete_is_skipped(sgp_train: Train, here: Path) -> None:
    assert sgp_train("-m", "seed=1,2", *QUICK).code == 0
    record = sweep_of(here)
    points = record["points"]
    assert [point["overrides"][0] for point in points] == ["seed=1", "seed=2"]  # type: ignore[attr-defined,index]
    assert record["command"] == f"sgp-train -m seed=1,2 {' '.join(QUICK)}"
    for point in points:  # type: ignore[attr-defined]
        spec = read(here / "runs" / point["run_id"] / "spec.json")
        assert spec["sweep"] == record["sweep_id"]
    again = sgp_train("-m", "seed=2,1", *QUICK)
    assert "2 complete already, 0 to start" in again.out
    assert sweep_of(here)["sweep_id"] == record["sweep_id"]


def test_points_are_called_by_what_tells_them_apart(sgp_train: Train, sgp: Callable[..., Answer], here: Path) -> None:
    words = ("-m", "optimizer.lr=0.1,0.05", "topology=ring", "cluster.threads_per_worker=1", "name=mine", *QUICK)
    dry = sgp_train(*words, "dry_run=true")
    assert "# [1/2] lr=0.1: 1 worker, in runs/" in dry.out
    assert "# [2/2] lr=0.05: 1 worker, in runs/" in dry.out
    said = sgp_train(*words)
    assert said.code == 0
    for told in ("[1/2] lr=0.1: 1 worker", "[2/2] lr=0.05: step 2/2", "[2/2] lr=0.05 ("):
        assert told in said.out
    listed = {run["point"]: run["name"] for run in sgp("runs", "--json").json}
    assert listed == {"lr=0.1": "mine", "lr=0.05": "mine"}
    heading, *lines = sgp("runs").out.splitlines()
    assert heading.split()[:3] == ["run", "name", "settings"]
    assert {line.split()[2] for line in lines} == set(listed)
    assert "lr=0.05" in sgp("status", str(sweep_of(here)["sweep_id"])).out


@pytest.mark.parametrize(
    ("overrides", "points"),
    [
        ([["seed=1", "log_every=2"], ["seed=2", "log_every=2"]], ["seed=1", "seed=2"]),
        (
            [["optimizer.lr=0.1", "pace.gamma=1"], ["optimizer.lr=0.2", "pace.gamma=2"]],
            ["lr=0.1 gamma=1", "lr=0.2 gamma=2"],
        ),
        (
            [["outer.tau=1", "pace.tau=2"], ["outer.tau=2", "pace.tau=1"]],
            ["outer.tau=1 pace.tau=2", "outer.tau=2 pace.tau=1"],
        ),
        ([["optimizer.lr=0.0621038412345"]], ["lr=0.0621"]),
        ([["optimizer.name=SGD"], ["optimizer.name=Rprop"]], ["optimizer.name=SGD", "optimizer.name=Rprop"]),
        ([["model.hidden=[64,64]"], ["model.hidden=[]"]], ["hidden=[64,64]", "hidden=[]"]),
    ],
)
def test_what_tells_points_apart(overrides: list[list[str]], points: list[str]) -> None:
    assert tell_apart(overrides) == points


def test_the_same_point_twice_is_one_run(sgp_train: Train, here: Path) -> None:
    said = sgp_train("-m", "cluster.threads_per_worker=1,2", *QUICK)
    assert said.code == 0
    assert len(list(here.glob("runs/[0-9a-f]*"))) == 1


def test_rerun_failed_starts_failed_runs_only(sgp_train: Train, here: Path) -> None:
    failing = ("debug.fail_rank=0", "debug.fail_step=2")
    three = ("-m", "training.max_steps=1,3", "seed=1,2", *[word for word in QUICK if "max_steps" not in word])
    assert sgp_train(*three, *failing).code == 1
    again = sgp_train(*three, "rerun=failed")
    assert again.code == 0
    assert "2 complete already, 2 to start" in again.out
    fresh = sgp_train("-m", "training.max_steps=1,4", "seed=1,2", *three[3:], "rerun=failed")
    assert "2 complete already, 2 not failed, 0 to start" in fresh.out


def test_rerun_all_starts_over_and_keeps_what_was(sgp_train: Train, here: Path) -> None:
    assert sgp_train("seed=1", *QUICK).code == 0
    [run] = here.glob("runs/[0-9a-f]*")
    (run / "note").write_text("kept")
    assert "is complete already" in sgp_train("seed=1", *QUICK).out
    again = sgp_train("seed=1", *QUICK, "rerun=all")
    assert "completed, 2 steps" in again.out
    assert not (run / "note").exists()
    [kept] = (here / "runs" / "replaced").iterdir()
    assert (kept / "note").read_text() == "kept"
    assert kept.name.startswith(run.name)


@pytest.mark.parametrize("words", [("rerun=some",), ("-m", "dry_run=true,false"), ("snapshot=7",)])
def test_options_of_the_command_are_checked(sgp_train: Train, here: Path, words: tuple[str, ...]) -> None:
    said = sgp_train(*words)
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert list(here.iterdir()) == []


def test_a_dry_run_needs_no_slurm_and_leaves_nothing(
    sgp_train: Train, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    said = sgp_train("-m", "seed=1,2", "algorithm=sgp,dpsgd", "cluster=slurm", "cluster.partition=gpu", "dry_run=true")
    assert said.code == 0
    assert said.out.count("#!/bin/bash") == 1
    for expected in ("#SBATCH --array=0-3%4", "#SBATCH --partition=gpu", "--kill-on-bad-exit=1", "#SBATCH --requeue"):
        assert expected in said.out
    assert said.out.count("run_id: ") == 4
    assert list(here.iterdir()) == []
    assert list((here.parent / "scratch").iterdir()) == []


def test_points_that_need_other_resources_are_other_arrays(sgp_train: Train) -> None:
    said = sgp_train("-m", "seed=1,2", "cluster=slurm", "cluster.nodes=1,2", "dry_run=true")
    assert said.out.count("#!/bin/bash") == 2
    assert said.out.count("#SBATCH --array=0-1%2") == 2
    assert "# to sbatch, for seed=1 nodes=1 (" in said.out


@pytest.mark.parametrize("words", [(), ("-m", "seed=1,2")])
def test_without_slurm_nothing_is_left_submitted(
    sgp_train: Train, here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PATH", "")
    said = sgp_train(*words, "cluster=slurm")
    assert said.code == 3
    assert "there is no SLURM here: sbatch is not found" in said.err
    assert len(said.err.splitlines()) == 1
    for run in here.glob("runs/[0-9a-f]*"):
        assert read(run / "summary.json")["status"] == "failed"
        assert not (run / "job.json").exists()


def test_a_site_adds_its_own_cluster(sgp_train: Train, here: Path) -> None:
    (here / "site" / "cluster").mkdir(parents=True)
    (here / "site" / "cluster" / "big.yaml").write_text("defaults: [slurm, _self_]\npartition: gpu\nnodes: 2\n")
    said = sgp_train("--config-dir", "site", "cluster=big", "cluster.workers_per_node=1", "dry_run=true")
    assert said.code == 0
    assert "#SBATCH --partition=gpu" in said.out
    assert "#SBATCH --nodes=2" in said.out
