"""Callbacks: when they are called, how they end training, and what a resumed run knows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sgp_core.tasks.kinds import task_kind_of
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training.callbacks import CALLBACKS, Callback, TrainingProgress
from sgp_core.training.config import CheckpointConfig, EvaluationConfig
from sgp_core.training.loop import train
from tests.training import tiny


@dataclass
class Diary(Callback):
    stop_at: int | None = None
    calls: ClassVar[list[tuple[str, int]]] = []

    def on_start(self, progress: TrainingProgress) -> None:
        self.calls.append(("start", progress.step))

    def after_step(self, progress: TrainingProgress) -> None:
        self.calls.append(("step", progress.step))
        if progress.step == self.stop_at:
            progress.request_stop()

    def on_evaluation(self, progress: TrainingProgress, scores: Mapping[str, Any]) -> None:
        assert {"loss", "accuracy"} <= scores.keys()
        self.calls.append(("evaluation", progress.step))

    def on_end(self, progress: TrainingProgress) -> None:
        self.calls.append(("end", progress.step))


@pytest.fixture
def diary() -> Iterator[list[tuple[str, int]]]:
    CALLBACKS.register("diary")(Diary)
    Diary.calls.clear()
    yield Diary.calls
    CALLBACKS.remove("diary")


def run(directory: Path, callbacks: list[Any], **settings: Any) -> dict[str, Any]:
    experiment = tiny.experiment(choices={"callbacks": callbacks})
    tracker = JsonlTracker(directory / "metrics.jsonl")
    return train(experiment, directory=directory, trackers=[tracker], **tiny.settings(**settings))


def test_callbacks_are_called_in_the_order_of_events(tmp_path: Path, diary: list[tuple[str, int]]) -> None:
    run(tmp_path, ["diary"], evaluation=EvaluationConfig(every_epochs=2))
    steps = [("step", step) for step in range(1, 40)]
    assert diary == [("start", 0), *steps[:26], ("evaluation", 26), *steps[26:], ("evaluation", 39), ("end", 39)]


def test_a_requested_stop_ends_training_at_the_next_evaluation(tmp_path: Path, diary: list[tuple[str, int]]) -> None:
    summary = run(tmp_path, [{"name": "diary", "stop_at": 15}], log_every=10)
    assert (summary["status"], summary["steps"], summary["final"]["step"]) == ("completed", 26, 26)
    rows = [(row["split"], row["step"]) for row in read_rows(tmp_path / "metrics.jsonl")]
    assert rows == [("train", 10), ("val", 13), ("train", 20), ("train", 26), ("val", 26)]
    assert diary[-1] == ("end", 26)
    assert (tmp_path / "checkpoints" / "step-26" / "manifest.json").exists()
    assert run(tmp_path, [{"name": "diary", "stop_at": 15}])["steps"] == 26  # and it stays the end when resumed


def progress() -> TrainingProgress:
    nothing: Any = None
    return TrainingProgress(nothing, nothing, nothing, task_kind_of("verses"), 0, 1, 10, 100)


def test_early_stopping_waits_for_the_better_direction_of_the_score() -> None:
    seen, stopping = progress(), CALLBACKS.build("early_stopping", patience=2, min_delta=0.1)
    for loss in (3.0, 2.0, 1.95, 1.0, 1.5):
        stopping.on_evaluation(seen, {"loss": loss})
        assert not seen.stop_requested
    resumed, again = CALLBACKS.build("early_stopping", patience=2, min_delta=0.1), progress()
    resumed.load_state(stopping.state())
    resumed.on_evaluation(again, {"accuracy": 0.1})  # the score was not measured: this says nothing
    assert not again.stop_requested
    resumed.on_evaluation(again, {"loss": 0.95})
    assert again.stop_requested


def test_training_stops_at_a_score() -> None:
    seen, stopping = progress(), CALLBACKS.build("stop_at", score=2.0)
    for scores in ({"loss": 2.1}, {"accuracy": 1.0}):  # the second was not asked for
        stopping.on_evaluation(seen, scores)
        assert not seen.stop_requested
    stopping.on_evaluation(seen, {"loss": 2.0})
    assert seen.stop_requested


def test_early_stopping_resumes_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    callbacks = [{"name": "early_stopping", "patience": 1, "min_delta": 0.5}]
    whole = run(tmp_path / "whole", callbacks)
    assert whole["steps"] == 26

    class Killed(Exception):
        pass

    def kill(self: Any, progress: TrainingProgress) -> None:
        if progress.step == 20:  # there is a checkpoint of step 13, after the first evaluation
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Callback, "after_step", kill)
        with pytest.raises(Killed):
            run(tmp_path / "part", callbacks, checkpoint=CheckpointConfig(asynchronous=False))
    assert run(tmp_path / "part", callbacks)["steps"] == 26


def test_callbacks_are_part_of_the_identity_where_there_are_any() -> None:
    plain, with_none = tiny.experiment(), tiny.experiment(choices={"callbacks": []})
    assert plain.fingerprint() == with_none.fingerprint()
    stopped, patient = (
        tiny.experiment(choices={"callbacks": [choice]})
        for choice in ("early_stopping", {"name": "early_stopping", "patience": 5})
    )
    explicit = tiny.experiment(choices={"callbacks": [{"name": "early_stopping", "patience": 3}]})
    assert len({plain.fingerprint(), stopped.fingerprint(), patient.fingerprint()}) == 3
    assert stopped.fingerprint() == explicit.fingerprint()


@pytest.mark.parametrize(
    ("options", "message"), [({"patience": 0}, "patience must be"), ({"min_delta": -1}, "zero or more")]
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CALLBACKS.build("early_stopping", **options)
