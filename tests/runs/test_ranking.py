"""Which run is best: by the score and direction that the runs or their search record, averaged over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.find import read_runs
from launcher.runs.ranking import Evaluation, choose_objective, evaluate, rank
from launcher.runs.run import Run
from launcher.runs.scores import read_scores
from sgp_core.atomic_files import read_json, write_json
from sgp_core.metrics import Direction, Metric, find_metric
from tests.support.run_folders import make_run

ERROR = Metric("squared_error", Direction.minimize, unit="m2")
REGRESSION = {"score": "squared_error", "scores": [find_metric("loss").to_dict(), ERROR.to_dict()]}
ACCURACY = Metric("accuracy", Direction.maximize)


def make(runs: Path, run_id: str, rows: Iterable[dict[str, Any]], metrics: Any = None, **experiment: Any) -> Run:
    """Write a run whose validation rows are ``rows``; ``metrics`` is what its spec.json records of its scores."""
    rows = [{"split": "val", "step": step, **row} for step, row in enumerate(rows, start=1)]
    folder = make_run(runs, run_id, rows=rows, **experiment)
    if metrics is not None:
        write_json(folder / "spec.json", {**(read_json(folder / "spec.json") or {}), "metrics": metrics})
    [run] = read_runs(runs, [run_id])
    return run


def test_the_best_evaluation_is_the_first_of_the_highest_or_lowest(tmp_path: Path) -> None:
    run = make(tmp_path, "0" * 10, [{"accuracy": value, "loss": -value} for value in (0.5, 0.9, 0.9, 0.7)])
    assert evaluate(run, ACCURACY) == Evaluation(best=0.9, best_step=2, last=0.7)
    assert evaluate(run, find_metric("loss")) == Evaluation(best=-0.9, best_step=2, last=-0.7)
    assert evaluate(run, Metric("bleu", Direction.maximize)) is None


def test_only_finite_numbers_count_and_replicas_stand_in_for_their_average(tmp_path: Path) -> None:
    rows = [{"accuracy": "high"}, {"accuracy": float("nan")}, {"accuracy_local_mean": 0.25}]
    assert evaluate(make(tmp_path, "0" * 10, rows), ACCURACY) == Evaluation(0.25, 3, 0.25)


def test_without_rows_the_summary_speaks(tmp_path: Path) -> None:
    run = make(tmp_path, "0" * 10, [])
    write_json(run.folder.summary, {"best": {"accuracy": 0.8, "step": 3}, "final": {"accuracy": 0.7, "step": 9}})
    [run] = read_runs(tmp_path, [run.run_id])
    assert evaluate(run, ACCURACY) == Evaluation(0.8, 3, 0.7)


def test_the_score_is_what_the_run_records(tmp_path: Path) -> None:
    run = make(tmp_path, "0" * 10, [{"squared_error": 2.0, "loss": 1.0}], REGRESSION)
    assert choose_objective([run]) == ERROR
    assert choose_objective([run], "loss").lower_is_better
    damaged = make(tmp_path, "1" * 10, [{"accuracy": 0.5}], {"score": 3, "scores": [{"nme": "x"}, 5]})
    assert choose_objective([damaged]).name == "accuracy"


@pytest.mark.parametrize(
    ("row", "name", "lower"),
    [
        ({"loss": 1.0, "accuracy": 0.5, "top5_accuracy": 0.9}, "accuracy", False),
        ({"loss": 1.0, "perplexity": 2.7, "bleu": 30.0}, "bleu", False),
        ({"loss": 1.0, "perplexity": 2.7}, "perplexity", True),
        ({"loss_local_mean": 1.0}, "loss", True),
        ({}, "accuracy", False),
    ],
)
def test_runs_of_0_1_recorded_no_scores(row: dict[str, float], name: str, lower: bool, tmp_path: Path) -> None:
    objective = choose_objective([make(tmp_path, "0" * 10, [row])])
    assert (objective.name, objective.lower_is_better) == (name, lower)


def test_a_search_decides_unless_the_user_names_a_metric(tmp_path: Path) -> None:
    runs = [make(tmp_path, "0" * 10, [{"accuracy": 0.5, "loss": 1.0}])]
    search = {"metric": "accuracy", "direction": "minimize"}
    assert choose_objective(runs, search=search) == Metric("accuracy", Direction.minimize)
    assert choose_objective(runs, "loss", search).name == "loss"
    assert choose_objective(runs, search={"metric": "strange"}).direction is Direction.maximize


def test_seeds_are_averaged_and_the_best_run_of_the_best_configuration_wins(tmp_path: Path) -> None:
    lucky = {("sgp", 0): 0.80, ("sgp", 1): 0.82, ("dpsgd", 0): 0.90, ("dpsgd", 1): 0.60}
    runs = [
        make(tmp_path, f"{number:010d}", [{"accuracy": value}], algorithm={"name": algorithm}, seed=seed)
        for number, ((algorithm, seed), value) in enumerate(lucky.items())
    ]
    ranking = rank(runs, ACCURACY)
    assert ranking.order == [1, 0, 2, 3]
    assert ranking.winners == {1}
    best = ranking.best
    assert best is not None
    assert best.score is not None
    assert (best.runs, best.winner, best.score.count) == ((1, 0), True, 2)
    assert (best.score.mean, best.score.std) == (pytest.approx(0.81), pytest.approx(0.02 / 2**0.5))


def test_one_run_alone_has_won_nothing_and_ties_all_win(tmp_path: Path) -> None:
    runs = [
        make(tmp_path, f"{number:010d}", [{"accuracy": 0.5}] if number else [], optimizer={"name": "sgd", "lr": number})
        for number in range(3)
    ]
    assert rank(runs, ACCURACY).winners == {1, 2}
    alone = rank(runs[:2], ACCURACY)
    assert (alone.winners, alone.best and alone.best.runs, alone.order) == (frozenset(), (1,), [1, 0])
    assert rank(runs[:1], ACCURACY).best is None


def test_what_a_run_records_of_its_scores_is_read(tmp_path: Path) -> None:
    scores = read_scores({"metrics": REGRESSION})
    assert scores.candidates == ("squared_error",)
    assert scores.find("squared_error_local_mean").lower_is_better
    row = json.loads('{"loss": 1.0, "squared_error_local_mean": 4.0, "accuracy": 0.5}')
    assert scores.values_in(row) == [(ERROR, 4.0)]


@pytest.mark.parametrize(
    "fact", [{"name": {}}, {"name": ["x"]}, {"name": 3}, {"name": "x", "label": {}}, {"unit": "s"}]
)
def test_scores_of_wrong_types_are_none(fact: dict[str, Any]) -> None:
    spec = {"metrics": {"score": "accuracy", "scores": [fact, {"name": "accuracy", "direction": "maximize"}]}}
    assert [metric.name for metric in read_scores(spec).metrics] == ["accuracy"]
