"""Virtual workers go through the same loop as processes: same rows, same models, same resume to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.tracking.jsonl import JsonlTracker, read_rows
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig, EvaluationConfig
from sgp_core.training.loop import train
from sgp_core.training.virtual.world import VirtualWorld
from tests.training import tiny


def _train(directory: Path, experiment: Any, **overrides: Any) -> list[dict[str, Any]]:
    """Train and return rank 0's rows."""
    tracker = JsonlTracker(directory / "metrics.jsonl")
    options = {"virtual": VirtualWorld(), **overrides}
    try:
        train(experiment, directory=directory, trackers=[tracker], **tiny.settings(**options))
    finally:
        tracker.finish("completed", {})
    return read_rows(directory / "metrics.jsonl")


def _numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timings = ("wall_time_s", "samples_per_s", "step_time_ms", "data_time_ms", "compute_time_ms", "comm_time_ms")
    return [{key: value for key, value in row.items() if key not in timings} for row in rows]


def test_one_virtual_worker_is_one_process(tmp_path):
    chosen = tiny.experiment(1, max_steps=5, accumulation_steps=2, clip_norm=0.5)
    rows = _numbers(_train(tmp_path / "virtual", chosen))
    real = _numbers(_train(tmp_path / "process", chosen, virtual=None))
    assert len(rows) == len(real)
    for mine, theirs in zip(rows, real, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


CASES: dict[str, dict[str, Any]] = {
    "osgp": {"algorithm": {"name": "sgp", "overlap_steps": 2}},
    "ahead": {"algorithm": {"name": "osgp"}, "compression": {"name": "int8"}},
    "asgp": {"algorithm": {"name": "asgp"}, "topology": {"name": "exponential"}},
    "adpsgd": {"algorithm": {"name": "adpsgd"}, "topology": {"name": "bipartite_exponential"}},
    "slowmo": {"outer": {"name": "slowmo", "tau": 3}, "topology": {"name": "star"}},
}


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_run_goes_on_to_the_bit(case, tmp_path):
    chosen = tiny.experiment(4, choices=CASES[case], max_steps=7)
    evaluation = EvaluationConfig(model="both")
    whole = _numbers(_train(tmp_path / "whole", chosen, evaluation=evaluation))

    def fail(row: dict[str, Any]) -> None:
        if row["step"] == 5:
            raise KeyError("stop here")

    saving = CheckpointConfig(every_steps=3, asynchronous=False)
    with pytest.raises(KeyError):
        _train(tmp_path / "parts", chosen, evaluation=evaluation, checkpoint=saving, on_progress=fail)
    assert _numbers(_train(tmp_path / "parts", chosen, evaluation=evaluation)) == whole


def test_a_checkpoint_of_virtual_workers_is_none_of_processes(tmp_path):
    chosen = tiny.experiment(2, max_steps=2)
    _train(tmp_path, chosen)
    store = CheckpointStore(tmp_path, 2, chosen.fingerprint())
    with pytest.raises(ConfigurationError, match="virtual workers, in one process"):
        store.check_shards(store.manifests()[0])
    assert torch.isfinite(store.read_shard(store.manifests()[0], 0)["gossip"]["parameters"][0]).all()
