"""The scores of a run: what its task's evaluation measures, and which of them ranks it.

A run records them in ``spec.json``, so that they are known where its task is not. Runs of version 0.1 did not: their
scores are those of the two tasks that version had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.runs.json_fields import items, mapping, number, text
from launcher.runs.metric_rows import Row
from sgp_core.metrics import LOSS, Direction, Metric, find_metric, read_metrics

_SCORES_OF_0_1 = (
    Metric("accuracy", Direction.maximize),
    Metric("bleu", Direction.maximize, label="BLEU"),
    Metric("perplexity", Direction.minimize),
    Metric("top5_accuracy", Direction.maximize, label="top-5 accuracy"),
)
"""The first of these that a run has measured ranks it."""


@dataclass(frozen=True)
class Scores:
    """What the evaluations of some runs measure.

    Attributes:
        candidates: names of the metrics that may rank the runs; the first that was measured does.
        metrics: every score, with its facts.
    """

    candidates: tuple[str, ...]
    metrics: tuple[Metric, ...]

    def find(self, name: str) -> Metric:
        """Return what is known of a metric, be it a score or not."""
        return find_metric(name, self.metrics)

    def ranking_metric(self, rows: Iterable[Row]) -> Metric:
        """Return the score that ranks runs whose validation rows are ``rows``."""
        given = list(rows)
        measured = (name for name in self.candidates if any(score_in(row, name) is not None for row in given))
        return self.find(next(measured, self.candidates[0]))

    def values_in(self, row: Row) -> list[tuple[Metric, float]]:
        """Return the scores in a row, with their values; the loss is not among them."""
        found = ((metric, score_in(row, metric.name)) for metric in self.metrics if metric.name != LOSS.name)
        return [(metric, value) for metric, value in found if value is not None]


def read_scores(spec: Mapping[str, Any]) -> Scores:
    """Return the scores that a run's ``spec.json`` records; for a run of version 0.1, those of its tasks."""
    recorded = mapping(spec.get("metrics"))
    metrics = tuple(read_metrics(fact for fact in items(recorded.get("scores")) if isinstance(fact, Mapping)))
    score = text(recorded.get("score"))
    if score is None or not metrics:
        names = (*(metric.name for metric in _SCORES_OF_0_1), LOSS.name)
        return Scores(names, (*_SCORES_OF_0_1, LOSS))
    return Scores((score,), metrics)


def common_scores(specs: Sequence[Mapping[str, Any]]) -> Scores:
    """Return the scores of several runs together; where runs differ, those of the first come first."""
    read = [read_scores(spec) for spec in specs] or [read_scores({})]
    candidates = dict.fromkeys(name for scores in read for name in scores.candidates)
    metrics = {metric.name: metric for scores in reversed(read) for metric in scores.metrics}
    return Scores(tuple(candidates), tuple(metrics.values()))


def score_in(row: Row, name: str) -> float | None:
    """Return a score of the averaged model; where only replicas are evaluated, the mean over them."""
    value = number(row.get(name))
    return number(row.get(f"{name}_local_mean")) if value is None else value
