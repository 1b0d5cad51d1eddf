"""Losses in the place of a task's own, and metrics beside its scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.evaluation_metrics import METRICS
from sgp_core.tasks.kinds import task_kind_of
from sgp_core.tasks.losses import LOSSES
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training.config import EvaluationConfig, Experiment
from sgp_core.training.experiment import build_metrics, build_parts, score_facts
from sgp_core.training.loop import train
from tests.training import tiny


def first_loss(directory: Path, **choices: Any) -> float:
    tracker = JsonlTracker(directory / "metrics.jsonl")
    experiment = tiny.experiment(choices=choices, max_steps=1)
    train(experiment, directory=directory, trackers=[tracker], **tiny.settings())
    return float(read_rows(directory / "metrics.jsonl")[0]["loss"])


def test_a_loss_takes_the_place_of_the_tasks_own(tmp_path: Path) -> None:
    own = first_loss(tmp_path / "own")
    assert first_loss(tmp_path / "same", loss={"name": "focal", "gamma": 0.0}) == pytest.approx(own, rel=1e-6)
    assert 0 < first_loss(tmp_path / "focal", loss={"name": "focal"}) < own


def test_the_focal_loss_weighs_cross_entropy_by_what_is_missing_to_certainty() -> None:
    logits, targets = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    p = logits.softmax(1)[torch.arange(5), targets]
    focal = LOSSES.build("focal", gamma=3.0)(logits, targets)
    assert float(focal) == pytest.approx(float((-((1 - p) ** 3) * p.log()).mean()))
    assert float(LOSSES.build("focal", gamma=0.0)(logits, targets)) == pytest.approx(
        float(cross_entropy(logits, targets))
    )


def test_the_loss_is_part_of_the_identity_only_where_it_is_not_the_tasks_own() -> None:
    plain, chosen = tiny.experiment(), tiny.experiment(choices={"loss": {"name": "focal"}})
    assert "loss" not in plain.identity()
    assert chosen.identity()["loss"] == {"name": "focal", "gamma": 2.0}


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    metric = METRICS.build("calibration_error", bins=2)
    logits = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45]]).log()
    parts = [metric.statistics(logits[:1], torch.tensor([0])), metric.statistics(logits[1:], torch.tensor([1, 0]))]
    assert {part.shape for part in parts} == {(metric.statistics_size,)}
    error = metric.scores(sum(parts[1:], parts[0]).tolist())["calibration_error"]
    assert error == pytest.approx(abs(0.9 + 0.8 + 0.55 - 2) / 3)  # all in the upper bin


def test_an_evaluation_computes_the_metrics_that_are_asked_for(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    evaluation = EvaluationConfig(metrics=["calibration_error"], model="both", batch_size=5)  # type: ignore[arg-type]
    train(tiny.experiment(max_steps=2), directory=tmp_path, trackers=[tracker], **tiny.settings(evaluation=evaluation))
    [row] = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["split"] == "val"]
    assert 0 < row["calibration_error"] < 1
    assert json.loads((tmp_path / "model.json").read_text())["scores"]["accuracy"] == row["accuracy"]


def test_what_a_run_records_of_its_scores_includes_the_metrics() -> None:
    score, facts = score_facts({"name": "digits"}, [{"name": "calibration_error"}])
    assert score == "accuracy"
    assert [fact.name for fact in facts] == ["loss", "accuracy", "top5_accuracy", "calibration_error"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": {"name": "focal", "gama": 1}}, "loss 'focal' has no option 'gama'; did you mean 'gamma'"),
        ({"loss": {"name": "fokal"}}, "unknown loss 'fokal'; did you mean 'focal'"),
        ({"dataset": {"name": "diabetes"}, "model": {"name": "linear"}, "loss": {"name": "focal"}}, "is for the task"),
        ({"loss": {"name": "focal"}, "training": {"label_smoothing": 0.1}}, "label_smoothing=0.1 is an option of the"),
        ({"callbacks": ["early_stoping"]}, "unknown callback 'early_stoping'; did you mean"),
    ],
)
def test_what_does_not_go_together_is_refused(changed: dict[str, Any], message: str) -> None:
    usual = tiny.experiment().to_dict() | {"dataset": {"name": "digits"}, "model": {"name": "mlp"}}
    with pytest.raises(ConfigurationError, match=message):
        build_parts(Experiment.from_dict({**usual, **changed}))


def test_metrics_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="metrics are those of the averaged model; use evaluation"):
        EvaluationConfig(metrics=["calibration_error"], model="local")  # type: ignore[arg-type]
    images, text = task_kind_of("digits"), task_kind_of("verses")
    with pytest.raises(ConfigurationError, match="metric 'calibration_error' is for the task 'images', not 'transl"):
        build_metrics([{"name": "calibration_error"}], text)
    with pytest.raises(ConfigurationError, match="computes 'calibration_error', which is there already"):
        build_metrics([{"name": "calibration_error"}, {"name": "calibration_error", "bins": 5}], images)
