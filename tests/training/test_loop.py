"""One worker's training: what it computes, reports and leaves behind."""

from __future__ import annotations

import collections
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training import stopping
from sgp_core.training.assembly import assemble
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig, EvaluationConfig
from sgp_core.training.loop import Preempted, TrainingDiverged, train
from sgp_core.training.peers import Peers
from sgp_core.training.schedules import SCHEDULES, LearningRateSchedule
from tests.training import tiny

ALWAYS = {
    *("step", "epoch", "split", "wall_time_s", "loss", "lr", "samples_per_s", "step_time_ms", "data_time_ms"),
    *("compute_time_ms", "comm_time_ms", "bytes_sent", "peak_step_bytes", "consensus_distance", "world_size"),
    *("push_sum_weight_min", "push_sum_weight_max"),
}
PLAIN = {"dataset": {"name": "blobs"}, "model": {"name": "mlp"}}


def run(directory: Path, experiment: Any = None, **settings: Any) -> dict[str, Any]:
    tracker = JsonlTracker(directory / "metrics.jsonl")
    experiment = experiment or tiny.experiment()
    return train(experiment, directory=directory, trackers=[tracker], **tiny.settings(**settings))


def rows(directory: Path, split: str) -> list[dict[str, Any]]:
    return [row for row in read_rows(directory / "metrics.jsonl") if row["split"] == split]


def losses(directory: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_rows(directory / "metrics.jsonl")]


def parameters(directory: Path) -> torch.Tensor:
    return torch.cat(tiny.newest_states(directory, 1)[0]["gossip"]["parameters"])


def test_it_learns_reports_and_leaves_checkpoints_and_the_model(tmp_path):
    seen = []
    summary = run(tmp_path, tiny.experiment(epochs=6), log_every=10, on_progress=seen.append)
    assert summary["status"] == "completed"
    assert summary["steps"] == 6 * 13
    assert summary["final"]["accuracy"] > 0.9
    assert summary["best"]["accuracy"] == max(row["accuracy"] for row in rows(tmp_path, "val"))
    assert [row["step"] for row in rows(tmp_path, "val")] == [13, 26, 39, 52, 65, 78]
    assert [row["epoch"] for row in rows(tmp_path, "val")] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows(tmp_path, "train")] == [10, 20, 30, 40, 50, 60, 70, 78]
    assert {path.name for path in tmp_path.iterdir()} == {
        *("checkpoints", "inputs.json", "metrics.jsonl", "model.safetensors", "model.json")
    }
    assert [line["step"] for line in seen] == [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")]
    assert all(line["total_steps"] == 78 and line["total_epochs"] == 6 for line in seen)


def test_rows_hold_the_promised_names_and_times_that_add_up(tmp_path):
    run(tmp_path, evaluation=EvaluationConfig(model="both", consensus_every=5), log_every=2)
    for row in rows(tmp_path, "train"):
        assert row.keys() == ALWAYS
        parts = (row["data_time_ms"], row["compute_time_ms"], row["comm_time_ms"])
        assert min(parts[:2]) > 0
        assert row["step_time_ms"] == pytest.approx(sum(parts))
        assert (row["consensus_distance"] is not None) == (row["step"] % 5 == 0)
    local = {"accuracy_local_mean", "accuracy_local_min", "accuracy_local_max", "loss_local_mean"}
    for row in rows(tmp_path, "val"):
        assert row.keys() == ALWAYS | {"accuracy", "top5_accuracy"} | local
        assert all(value is not None for value in row.values())


@pytest.mark.parametrize("stops", [[1], [13], [20], [2, 3, 21, 30]])
def test_stopping_and_going_on_changes_no_bit_and_no_row(tmp_path, monkeypatch, stops):
    monkeypatch.setattr(stopping, "_SECONDS_BETWEEN", 0.0)
    settings = {"evaluation": EvaluationConfig(consensus_every=4), "log_every": 3}
    run(tmp_path / "whole", **settings)
    before = 0
    for stop in stops:
        questions = itertools.count()
        with pytest.raises(Preempted) as caught:
            run(tmp_path / "parts", should_stop=lambda q=questions, left=stop - before: next(q) >= left, **settings)
        assert caught.value.step == newest_step(tmp_path / "parts") == stop
        before = stop
    run(tmp_path / "parts", **settings)
    tiny.assert_same_bits(tiny.newest_states(tmp_path / "parts", 1), tiny.newest_states(tmp_path / "whole", 1))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def newest_step(directory: Path) -> int:
    return CheckpointStore(directory, 1).manifests()[0].step


def test_a_finished_run_is_not_trained_again(tmp_path):
    summary = run(tmp_path)
    metrics, model = (tmp_path / "metrics.jsonl").read_bytes(), (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").unlink()
    again = run(tmp_path)
    assert {**again, "wall_time_s": 0} == {**summary, "wall_time_s": 0}
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics
    assert (tmp_path / "model.safetensors").read_bytes() == model


def test_how_often_one_looks_does_not_change_what_is_trained(tmp_path):
    run(tmp_path / "often", evaluation=EvaluationConfig(every_steps=10, consensus_every=1), log_every=1)
    seldom = CheckpointConfig(every_epochs=0, asynchronous=False)
    run(tmp_path / "seldom", evaluation=EvaluationConfig(every_epochs=0), checkpoint=seldom, log_every=7)
    tiny.assert_same_bits(parameters(tmp_path / "often"), parameters(tmp_path / "seldom"))
    assert [row["step"] for row in rows(tmp_path / "often", "val")] == [10, 13, 20, 26, 30, 39]
    assert [row["step"] for row in rows(tmp_path / "seldom", "val")] == [39]


def test_the_transport_is_the_callers_choice(tmp_path):
    with pytest.raises(ConfigurationError, match="unknown transport 'pigeon'"):
        run(tmp_path, transport="pigeon")


def test_max_steps_ends_in_the_middle_of_an_epoch_with_an_evaluation(tmp_path):
    summary = run(tmp_path, tiny.experiment(max_steps=17), log_every=5)
    assert summary["steps"] == summary["final"]["step"] == newest_step(tmp_path) == 17
    assert [row["step"] for row in rows(tmp_path, "train")] == [5, 10, 15, 17]


def test_checkpoints_are_written_when_due_and_the_best_is_kept(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        "sgp_core.training.saver.CheckpointSaver.save", lambda self, step, state, score, _: saved.append((step, score))
    )
    run(tmp_path, checkpoint=CheckpointConfig(every_steps=10, every_epochs=2, keep_best=False))
    assert [step for step, _ in saved] == [10, 20, 26, 30, 39]
    assert [score is not None for _, score in saved] == [False, False, True, False, True]
    saved.clear()
    run(tmp_path, checkpoint=CheckpointConfig(every_epochs=0, keep_best=True))
    accuracies = [row["accuracy"] for row in rows(tmp_path, "val")]
    new_best = [13 * (i + 1) for i, one in enumerate(accuracies) if one > max(accuracies[:i], default=-1)]
    assert [step for step, _ in saved] == sorted({*new_best, 39})


def test_a_loss_that_is_no_number_stops_with_step_and_rank(tmp_path):
    wild = tiny.experiment(choices={"optimizer": {"name": "sgd", "lr": 1e30, "momentum": 0.0, "nesterov": False}})
    with pytest.raises(TrainingDiverged, match=r"loss is (nan|inf) at step \d+ on rank 0: try a smaller"):
        run(tmp_path, wild)


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path):
    run(tmp_path / "whole", tiny.experiment(choices=PLAIN))
    run(tmp_path / "parts", tiny.experiment(choices=PLAIN, accumulation_steps=3))
    whole, parts = parameters(tmp_path / "whole"), parameters(tmp_path / "parts")
    assert not torch.equal(whole, parts)
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5)


def test_clipping_bounds_the_global_norm_of_a_step(tmp_path):
    sgd = {"name": "sgd", "lr": 0.5, "momentum": 0.0, "nesterov": False}
    for steps in (1, 2):
        experiment = tiny.experiment(choices={**PLAIN, "optimizer": sgd}, clip_norm=1e-3, max_steps=steps)
        run(tmp_path / str(steps), experiment)
    moved = torch.linalg.vector_norm(parameters(tmp_path / "2") - parameters(tmp_path / "1"))
    assert float(moved) == pytest.approx(0.5 * 1e-3, rel=1e-2)


@dataclass(frozen=True)
class Halving(LearningRateSchedule):
    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        assert (steps_per_epoch, total_steps, world_size) == (13, 39, 1)
        return 0.5**step


def test_the_learning_rate_of_each_step_is_the_base_times_the_factor(tmp_path):
    SCHEDULES.register("halving")(Halving)
    try:
        run(tmp_path, tiny.experiment(choices={"schedule": {"name": "halving"}}))
    finally:
        SCHEDULES.remove("halving")
    assert [row["lr"] for row in rows(tmp_path, "train")] == [0.05 * 0.5**step for step in range(39)]


def test_bf16_and_channels_last_train_too(tmp_path):
    for options in ({"precision": "bf16"}, {"channels_last": True}, {"precision": "bf16", "channels_last": True}):
        directory = tmp_path / "-".join(options)
        summary = run(directory, tiny.experiment(epochs=5, **options))
        assert summary["final"]["accuracy"] > 0.8
        assert parameters(directory).dtype == torch.float32


def test_label_smoothing_acts_on_the_training_loss_only(tmp_path):
    run(tmp_path, tiny.experiment(epochs=6, label_smoothing=0.5))
    assert rows(tmp_path, "train")[-1]["loss"] > 1.0
    assert rows(tmp_path, "val")[-1]["loss"] < 1.0


def test_the_callers_determinism_settings_are_restored(tmp_path):
    assert not torch.are_deterministic_algorithms_enabled()
    inside = []
    run(tmp_path, on_progress=lambda line: inside.append(torch.are_deterministic_algorithms_enabled()))
    assert all(inside)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_failed_write_stops_training(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(RuntimeError, match=r"cannot write checkpoint .*No space left on device"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("experiment", "settings", "message"),
    [
        (tiny.experiment(2), {}, "the experiment is for 2 workers, but 1 were started"),
        (tiny.experiment(), {"log_every": 0}, "log_every must be at least 1, not 0"),
        (tiny.experiment(choices={"topology": {"name": "rung"}}), {}, "unknown topology 'rung'"),
        (tiny.experiment(choices={"model": {}}), {}, "a choice needs a name"),
    ],
)
def test_impossible_wishes_are_refused_before_anything_is_written(tmp_path, experiment, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        run(tmp_path, experiment, **settings)
    assert not (tmp_path / "checkpoints").exists()


def test_changed_data_are_noticed_on_resume(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr(
        tiny.Blobs, "load", lambda self: tiny.ImageClassification(tiny.Images(50, 1), tiny.Images(9, 2), 6, (2, 5, 5))
    )
    with pytest.raises(ConfigurationError, match="saved at 13 steps per epoch, now there are 7"):
        run(tmp_path)


def test_loss_rows_are_means_over_their_window(tmp_path):
    run(tmp_path / "each", log_every=1)
    run(tmp_path / "five", log_every=5)
    each = [row["loss"] for row in rows(tmp_path / "each", "train")]
    first = rows(tmp_path / "five", "train")[0]["loss"]
    assert math.isclose(first, sum(each[:5]) / 5, rel_tol=1e-12)


def test_a_topology_scheduled_by_epochs_learns_how_long_an_epoch_is():
    phases = [{"start": 0, "name": "one_peer_exponential", "peers": 2}, {"start": 1, "name": "ring"}]
    experiment = tiny.experiment(choices={"topology": {"name": "schedule", "phases": phases}})
    parts = assemble(experiment, torch.device("cpu"), Peers(torch.device("cpu")))
    first = parts.sampler.steps_per_epoch
    named = [parts.gossip.topology.at(step)[0].name for step in (first - 1, first)]
    assert named == ["one_peer_exponential", "ring"]


def test_a_timeline_holds_the_stages_of_the_steps_asked_for(tmp_path):
    run(tmp_path, timeline_steps=4)
    trace = json.loads((tmp_path / "timeline" / "rank-0.json").read_text())
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = collections.Counter(span["name"] for span in spans)
    assert names == dict.fromkeys(("data", "forward", "backward", "optimizer and gossip", "step"), 4)
    steps = [span for span in spans if span["name"] == "step"]
    assert [step["args"]["step"] for step in steps] == [3, 4, 5, 6]
    for step in steps:
        inside = [s for s in spans if step["ts"] <= s["ts"] and s["ts"] + s["dur"] <= step["ts"] + step["dur"]]
        assert len(inside) == 5
