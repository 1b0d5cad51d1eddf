"""The same command on SLURM: the same bits, one array a sweep, and a dry run that tells the truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.runs.run_folder import RunFolder
from tests.slurm.lab import Lab
from tests.slurm.training import job_of, rows, run_of, shards, train, until_status, weights

DIGITS = ("training.epochs=2", "log_every=4", "tracker=none", "cluster.threads_per_worker=1")
"""Sums over threads depend on how many there are, and the cores of this machine may be more than SLURM gives."""
SWEEP = ("-m", "algorithm=sgp,dpsgd", "seed=1,2", "topology=complete", "training.max_steps=6", "tracker=none")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_same_bits_on_four_nodes_on_two_and_on_this_machine(lab: Lab, work: Path) -> None:
    assert train("cluster=slurm", "cluster.nodes=4", "cluster.workers_per_node=1", "runs_dir=four", *DIGITS) == 0
    assert train("cluster=slurm", "cluster.nodes=2", "cluster.workers_per_node=2", "runs_dir=two", *DIGITS) == 0
    four, two = run_of(work / "four"), run_of(work / "two")
    until_status(four, "completed")
    until_status(two, "completed")
    assert train("cluster=local", "cluster.workers_per_node=4", "runs_dir=here", *DIGITS) == 0
    here = run_of(work / "here")
    assert here.path.name == four.path.name == two.path.name
    assert len(rows(here)) == 8
    for folder in (four, two):
        assert rows(folder) == rows(here)
        assert weights(folder) == weights(here)
        assert shards(folder) == shards(here)
    nodes = [json.loads(four.rank(rank).read_text())["node"] for rank in range(4)]
    assert nodes == ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]


def test_a_sweep_is_one_array_and_is_submitted_once(lab: Lab, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = "cluster.additional_parameters={hold: true}"  # or some would be complete before the second submission
    on_slurm = (*SWEEP, "cluster=slurm", "cluster.workers_per_node=1", "cluster.array_parallelism=2", held)
    assert train(*on_slurm) == 0
    assert "4 runs, 4 to start" in capsys.readouterr().out
    [sweep] = (work / "runs" / "sweeps").iterdir()
    runs = [point["run_id"] for point in json.loads((sweep / "sweep.json").read_text())["points"]]
    folders = [RunFolder(work / "runs" / run) for run in runs]
    jobs = [job_of(folder) for folder in folders]
    array = jobs[0].partition("_")[0]
    assert jobs == [f"{array}_{index}" for index in range(4)]

    assert train(*on_slurm) == 0
    assert "4 on SLURM already, 0 to start" in capsys.readouterr().out
    lab.run("scontrol", "release", array)
    for folder in folders:
        until_status(folder, "completed")
    assert train(*on_slurm) == 0
    assert "4 complete already, 0 to start" in capsys.readouterr().out

    broken = [word.replace("seed=1,2", "seed=1,two") for word in on_slurm]
    assert train(*broken) == 2
    assert "point 2 of 4 (algorithm=sgp seed=two" in capsys.readouterr().err
    assert len(list((work / "runs").glob("[0-9a-f]*"))) == 4
    assert len(lab.run("squeue", "-h", "-t", "all", "-r").splitlines()) >= 4
    assert {line for line in lab.run("squeue", "-h", "-r", "-t", "all", "-o", "%F").split() if line == array} == {array}


def test_a_dry_run_prints_what_sbatch_gets(lab: Lab, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resources = (
        "cluster=slurm",
        "cluster.nodes=2",
        "cluster.workers_per_node=2",
        "cluster.cpus_per_worker=2",
        "cluster.memory_gb=1.5",
        "cluster.partition=main",
        "cluster.exclude=127.0.0.4",
        "cluster.setup=['echo \"set up\"']",
        'cluster.srun_args=["--export=ALL"]',
        "cluster.additional_parameters={comment: two words, hold: true, exclusive: false}",
    )
    for words in (("seed=1",), ("-m", "seed=1,2,3")):
        assert train(*words, *resources, "tracker=none", "dry_run=true") == 0
        shown = capsys.readouterr().out
        assert not list(work.iterdir())
        assert train(*words, *resources, "tracker=none") == 0
        job = capsys.readouterr().out.partition("submitted job ")[2].split()[0]
        assert shown.partition("#!/bin/bash")[1:] == lab.script_of(job).partition("#!/bin/bash")[1:]
        lab.run("scancel", job)
        for path in work.iterdir():
            path.rename(work.parent / f"{work.name}-{job}")


def test_what_sbatch_refuses_is_told_in_its_words(lab: Lab, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("cluster=slurm", "cluster.partition=nowhere", "tracker=none") == 3
    assert capsys.readouterr().err == "sgp-train: sbatch refused: invalid partition specified: nowhere\n"
    folder = run_of(work / "runs")
    assert folder.status() == "failed"
    assert not folder.job.exists()
    assert not lab.run("squeue", "-h")
