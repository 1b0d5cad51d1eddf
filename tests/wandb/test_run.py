"""What of a run's specification goes to Weights & Biases, and what must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.config.make_plan import make_plan
from launcher.wandb.run import trackers, wandb_tracker
from sgp_core.atomic_files import write_json
from sgp_core.tracking import JsonlTracker, WandbTracker
from tests.support.command_line import composed


def spec(*overrides: str, sweep: str | None = None) -> dict[str, Any]:
    """Return what ``spec.json`` holds."""
    provenance = {"command": "sgp-train cluster.setup=[...]", "host": "node-1", "git": {"sha": "abc"}}
    return {**make_plan(composed(*overrides)).spec(), "provenance": provenance, "sweep": sweep}


def arguments(tracker: WandbTracker) -> dict[str, Any]:
    """Return what wandb would be started with."""
    return tracker._arguments


@pytest.mark.parametrize(
    ("overrides", "sweep", "group"),
    [
        ([], None, None),
        ([], "cafe0001", "cafe0001"),
        (["tracker.group=mine"], "cafe0001", "mine"),
        (["tracker.per_rank=true"], None, "the run"),
        (["tracker.per_rank=true"], "cafe0001", "cafe0001"),
    ],
)
def test_runs_that_belong_together_are_a_group(tmp_path, overrides, sweep, group):
    given = spec("cluster.workers_per_node=2", *overrides, sweep=sweep)
    for rank in range(2):
        chosen = arguments(wandb_tracker(given, tmp_path, rank))["group"]
        assert chosen == (given["run_id"] if group == "the run" else group)


def test_each_worker_mirrors_its_own_record_where_asked(tmp_path):
    alone, each = spec("cluster.workers_per_node=2"), spec("cluster.workers_per_node=2", "tracker.per_rank=true")
    assert [len(trackers(alone, tmp_path, rank)) for rank in range(2)] == [1, 0]
    assert [len(trackers(each, tmp_path, rank)) for rank in range(2)] == [1, 2]
    record, mirror = trackers(each, tmp_path, 1)
    assert isinstance(record, JsonlTracker)
    assert isinstance(mirror, WandbTracker)
    record.log({"step": 1})
    assert (tmp_path / "metrics-rank-1.jsonl").exists()
    started = arguments(mirror)
    assert started["id"] == f"{each['run_id']}-rank1"
    assert (started["name"], started["job_type"]) == (f"{each['name']}-rank1", "rank")
    assert trackers(spec("tracker=none"), tmp_path, 0) == []


def test_a_run_is_described_without_what_may_be_secret(tmp_path):
    secrets = ["cluster.setup=['export KEY=hush-4711']", "cluster.additional_parameters={comment: hush-4711}"]
    given = spec(
        "cluster=slurm",
        "cluster.nodes=4",
        "cluster.workers_per_node=1",
        *secrets,
        "algorithm=dpsgd",
        "optimizer.lr=0.25",
        "seed=3",
    )
    write_json(tmp_path / "spec.json", given)
    assert "hush-4711" in (tmp_path / "spec.json").read_text()
    config = arguments(wandb_tracker(given, tmp_path))["config"]
    assert "hush-4711" not in json.dumps(config)
    assert "command" not in config["provenance"]
    assert config["provenance"]["git"]["sha"] == "abc"
    wanted = {"algorithm": "dpsgd", "lr": 0.25, "seed": 3, "workers": 4, "outer": "none"}
    assert {name: config[name] for name in wanted} == wanted
    assert config["experiment"] == given["experiment"]
    assert Path(arguments(wandb_tracker(given, tmp_path))["dir"]) == tmp_path
