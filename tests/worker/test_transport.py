"""How models travel, and when, is a matter of the cluster, and passed on to the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.config.make_plan import make_plan
from launcher.config.schema import choice_of_spec
from launcher.runs.run_folder import RunFolder
from launcher.worker.device_setup import Place
from launcher.worker.worker import run_worker
from sgp_core.atomic_files import write_json
from tests.support.command_line import composed


@pytest.mark.parametrize("name", ["hierarchical", "mixed"])
def test_specs_hold_the_name_of_a_transport_whichever_way_it_was_written(name: str) -> None:
    plan = make_plan(composed("cluster=slurm", "cluster.nodes=2", f"cluster.transport={name}", "tracker=none"))
    cluster = plan.spec()["cluster"]
    assert cluster["transport"] == "hierarchical"
    assert choice_of_spec("cluster", {**cluster, "transport": name}) == plan.cluster, "specs of 0.1 hold 'mixed'"


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
