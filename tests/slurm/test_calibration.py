"""``sgp calibrate`` as a job: what its workers measure comes back in a file, which a plan reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli.sgp import main
from tests.slurm.lab import Lab

TWO_NODES = ("cluster.nodes=2", "cluster.workers_per_node=2", "model=mlp", "dataset=digits")


def test_a_job_over_two_nodes_measures_and_a_plan_reads_it(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are those of a busy machine, so only that they are there is tested."""
    monkeypatch.chdir(tmp_path)
    on_slurm = ("cluster=slurm", "cluster.threads_per_worker=1", *TWO_NODES)
    assert main(["calibrate", *on_slurm, "--seconds", "4"]) == 0
    assert capsys.readouterr().out.startswith("4 workers on 2 hosts, in ")
    found = json.loads(Path("calibration.json").read_text())
    measured = found["measured"]
    assert measured["hosts"] == ["127.0.0.1", "127.0.0.2"]
    assert set(measured["exchanges"]) == {"inside", "across", "all_reduce", "update"}
    assert [pair[:2] for pair in measured["pairs"]] == [[0, 1], [1, 0]]
    assert found["network"]["workers_per_host"] == 2
    assert found["network"]["bandwidth_mbit"] > 0
    assert list(Path("runs").iterdir()) == [], "nothing stays but the file"
    assert not lab.run("squeue", "-h")

    assert main(["plan", "default", *TWO_NODES, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["assumed"] == ["network calibration.json", "computation of calibration.json"]
    assert plan["network"] | found["network"] == plan["network"]
    assert plan["plans"][0]["workers"] == 4
