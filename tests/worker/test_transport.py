"""How models travel, and when, is a matter of the cluster, told to whoever trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.config.make_plan import make_plan
from launcher.config.schema import TransportName
from launcher.runs.run_folder import RunFolder, write_json
from launcher.worker.device_setup import Place
from launcher.worker.worker import run_worker
from sgp_core.transports.select import TRANSPORTS
from tests.support.command_line import composed


def test_the_launcher_knows_the_transports_of_the_library():
    assert sorted(TransportName) == sorted(TRANSPORTS)


def test_several_workers_on_each_of_several_nodes_can_mix_both_ways():
    plan = make_plan(composed("cluster=slurm", "cluster.nodes=2", "cluster.transport=mixed", "tracker=none"))
    assert plan.spec()["cluster"]["transport"] == "mixed"


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (["cluster=local", "cluster.workers_per_node=1", "cluster.transport=p2p"], ("p2p", False)),
        (["cluster=local", "cluster.workers_per_node=1", "cluster.step_in_backward=true"], ("auto", True)),
        (["cluster=inline"], ("auto", False)),
    ],
)
def test_it_reaches_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: list[str], expected: Any):
    given: dict[str, Any] = {}

    def train(*_: Any, **options: Any) -> dict[str, Any]:
        given.update(options)
        return {"status": "completed", "steps": 0}

    monkeypatch.setattr("sgp_core.training.loop.train", train)
    plan = make_plan(composed(*cluster, "cluster.threads_per_worker=1", "tracker=none", f"runs_dir={tmp_path}"))
    folder = RunFolder(plan.run_dir)
    folder.path.mkdir(parents=True)
    write_json(folder.spec, plan.spec())
    run_worker(folder.spec, 1, Place(), separate=False)
    assert (given["transport"], given["step_in_backward"]) == expected
