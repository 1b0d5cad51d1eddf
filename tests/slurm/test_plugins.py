"""Users' own parts on SLURM: the jobs load the copies that were taken when they were submitted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sgp_core.atomic_files import read_json
from sgp_core.plugins import load_plugins, unload_plugin
from tests.slurm.lab import Lab
from tests.slurm.training import job_of, run_of, train, until_status
from tests.support.plugins import PARTS, install_package

OWN = ("model=own_model", "dataset=own_dataset", "dataset.noise=0.1", "algorithm=own_algorithm")
QUICK = ("tracker=none", "training.epochs=2", "training.batch_size=4", "cluster.threads_per_worker=1")


def test_jobs_use_the_copies_of_a_file_and_of_an_installed_package(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install_package(tmp_path / "site", "installed_there")
    monkeypatch.syspath_prepend(tmp_path / "site")
    shutil.copy(PARTS, "parts.py")
    on_slurm = ("cluster=slurm", "cluster.nodes=2", "cluster.workers_per_node=1", "snapshot=true")
    try:
        words = ("plugins=[./parts.py]", *OWN, "schedule=installed_there_schedule", *on_slurm, *QUICK)
        held = "cluster.additional_parameters={hold: true}"
        assert train(*words, held) == 0
    finally:
        for plugin in load_plugins(["./parts.py"]):
            unload_plugin(plugin)
    Path("parts.py").unlink()
    shutil.rmtree("site")
    folder = run_of(tmp_path / "runs")
    lab.run("scontrol", "release", job_of(folder))
    assert until_status(folder, "completed", "failed")["status"] == "completed"
    assert [plugin["kind"] for plugin in (read_json(folder.spec) or {})["plugins"]] == ["entry point", "file"]
