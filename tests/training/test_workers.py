"""What several workers agree on: evaluation, export, stopping, and where to resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from sgp_core.training import stopping
from sgp_core.training.assembly import assemble
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig, EvaluationConfig
from sgp_core.training.evaluation import Evaluator
from sgp_core.training.export import averaged_state
from sgp_core.training.loop import Preempted, train
from sgp_core.training.peers import Peers
from sgp_core.training.step import TrainingStep
from tests.support.workers import run_workers
from tests.training import tiny

WORLD = 3


def score(model: nn.Module) -> tuple[float, float]:
    """Return accuracy and loss on the validation set."""
    inputs, targets = tiny.Images(37, 2).batch(torch.arange(37))
    model.eval()
    with torch.no_grad():
        logits = model(inputs)
    return float((logits.argmax(1) == targets).double().mean()), float(cross_entropy(logits, targets))


def evaluate_by_hand() -> dict[str, Any]:
    """Train a little, then score with the evaluator and by hand."""
    with tiny.known():
        experiment, peers = tiny.experiment(WORLD), Peers(tiny.CPU)
        parts = assemble(experiment, tiny.CPU, peers)
        take_step = TrainingStep(parts.model, parts.optimizer, parts.gossip, cross_entropy, experiment.training)
        for indices in parts.sampler.indices(0)[:4]:
            take_step(parts.task.batch(indices))
        before = {name: tensor.clone() for name, tensor in parts.model.state_dict().items()}
        evaluation = EvaluationConfig(model="both", batch_size=10)
        scores = Evaluator(
            parts.model, parts.gossip, parts.chosen.kind, parts.task, peers, tiny.CPU, evaluation, experiment.training
        )()
        tiny.assert_same_bits(dict(parts.model.state_dict()), before)
        own = score(parts.model)
        with parts.gossip.averaged():
            averaged = score(parts.model)
        return {"scores": scores, "own": own, "averaged": averaged}


def test_scores_are_those_of_the_averaged_model_and_of_the_replicas():
    ranks = run_workers(WORLD, evaluate_by_hand)
    scores = ranks[0]["scores"]
    own, own_losses = zip(*(rank["own"] for rank in ranks), strict=True)
    assert all(rank["scores"] == scores for rank in ranks)
    assert (scores["accuracy"], scores["loss"]) == pytest.approx(ranks[0]["averaged"], rel=1e-5)
    assert scores["loss_local_mean"] == pytest.approx(sum(own_losses) / WORLD, rel=1e-5)
    assert scores["accuracy_local_mean"] == pytest.approx(sum(own) / WORLD)
    assert scores["accuracy_local_min"] == pytest.approx(min(own))
    assert scores["accuracy_local_max"] == pytest.approx(max(own))
    assert len(set(own)) > 1
    assert scores["accuracy"] <= scores["top5_accuracy"] <= 1


def train_here(directory: Path, wishes_to_stop: int | None = None, choices: dict[str, Any] | None = None) -> Any:
    peers = Peers(tiny.CPU)
    stopping._SECONDS_BETWEEN = 0.0
    questions = iter(range(1000))
    should_stop = None if wishes_to_stop is None else lambda: peers.rank == wishes_to_stop and next(questions) >= 5
    with tiny.known():
        try:
            return train(
                tiny.experiment(peers.world_size, choices=choices),
                directory=directory,
                should_stop=should_stop,
                **tiny.settings(checkpoint=CheckpointConfig(every_steps=2, keep_last=3)),
            )
        except Preempted as stopped:
            return stopped.step


def test_the_exported_model_is_the_averaged_one_and_loads_without_this_project(tmp_path):
    summaries = run_workers(WORLD, train_here, tmp_path)
    model = tiny.NoisyNet().build((2, 5, 5), tiny.CLASSES)
    model.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    final = summaries[0]["final"]
    assert score(model) == pytest.approx((final["accuracy"], final["loss"]), rel=1e-5)
    assert summaries[0]["final"]["consensus_distance"] > 0
    description = json.loads((tmp_path / "model.json").read_text())
    assert description["model"] == {"name": "noisy"}
    assert description["example_shape"] == [2, 5, 5]
    assert description["num_classes"] == tiny.CLASSES
    assert all(summary["final"]["accuracy"] == summaries[0]["final"]["accuracy"] for summary in summaries)


def test_one_worker_that_wants_to_stop_stops_all_at_the_same_saved_step(tmp_path):
    assert run_workers(WORLD, train_here, tmp_path, 2) == [5, 5, 5]
    store = CheckpointStore(tmp_path, WORLD)
    assert store.manifests()[0].step == 5
    assert [store.read_shard(store.manifests()[0], rank)["step"] for rank in range(WORLD)] == [5] * WORLD


def test_nodes_stop_resume_and_export_like_workers(tmp_path):
    choices = {"node_size": 2, "algorithm": {"name": "osgp"}}
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    run_workers(4, train_here, whole, None, choices)
    assert run_workers(4, train_here, parted, 3, choices) == [5] * 4
    run_workers(4, train_here, parted, None, choices)
    tiny.assert_same_bits(*(tiny.newest_states(folder, 4) for folder in (parted, whole)))
    assert (parted / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()

    store, model = CheckpointStore(whole, 4), tiny.NoisyNet().build((2, 5, 5), tiny.CLASSES)
    averaged = averaged_state(store, store.manifests()[0], model, node_size=2)
    for name, tensor in load_file(whole / "model.safetensors").items():
        torch.testing.assert_close(averaged[name], tensor, rtol=1e-6, atol=1e-7)


def test_if_one_workers_shard_is_damaged_all_go_back_to_the_checkpoint_before(tmp_path):
    run_workers(WORLD, train_here, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "damaged")
    store = CheckpointStore(tmp_path / "damaged", WORLD)
    newest = store.manifests()[0].step
    (store.step_folder(newest) / "rank-2.pt").write_bytes(b"junk")
    run_workers(WORLD, train_here, tmp_path / "damaged")
    assert (store.folder / f"damaged-step-{newest}").exists()
    states = [tiny.newest_states(tmp_path / name, WORLD) for name in ("damaged", "whole")]
    assert states[0][0]["step"] == newest
    tiny.assert_same_bits(*states)
