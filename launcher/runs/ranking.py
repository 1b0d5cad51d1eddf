"""Which run is best: decided here for ``sgp table``, ``sgp status``, ``sgp report`` and searches.

Runs that differ by their seed only are one configuration. A run counts by its best evaluation, a configuration by the
mean over its runs. The best configuration wins, and in it the best run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.runs.json_fields import mapping, text, whole
from launcher.runs.metric_rows import validations
from launcher.runs.run import Run
from launcher.runs.scores import common_scores, read_scores, score_in
from launcher.runs.seeds import Sample, group_by_seed, summarize
from launcher.runs.settings import experiment_settings
from sgp_core.metrics import Direction, Metric


@dataclass(frozen=True)
class Evaluation:
    """What a run has reached by the objective.

    Attributes:
        best: the best value; its first, where several evaluations tie.
        best_step: the step at which that was measured; None if the row does not say.
        last: the latest value.
    """

    best: float
    best_step: int | None
    last: float


@dataclass(frozen=True)
class Configuration:
    """Runs that differ by their seed only.

    Attributes:
        runs: their positions among the runs that are ranked, the best first.
        score: mean and standard deviation of their best values; None if none has been evaluated.
        winner: whether no other configuration is better; False where there is no other.
    """

    runs: tuple[int, ...]
    score: Sample | None
    winner: bool = False


@dataclass(frozen=True)
class Ranking:
    """Runs, ranked by an objective.

    Attributes:
        objective: the metric that ranks them; its direction is set.
        evaluations: of each run, in the order given; None for a run that has not been evaluated.
        configurations: the best first, those without a score last.
        winners: positions of the best runs of the winning configurations; empty if fewer than two runs have a score.
    """

    objective: Metric
    evaluations: tuple[Evaluation | None, ...]
    configurations: tuple[Configuration, ...]
    winners: frozenset[int]

    @property
    def order(self) -> list[int]:
        """Positions of the runs, those of the best configuration first."""
        return [run for configuration in self.configurations for run in configuration.runs]

    @property
    def best(self) -> Configuration | None:
        """The best configuration; None if no run has been evaluated."""
        first = self.configurations[0] if self.configurations else None
        return first if first is not None and first.score is not None else None


def choose_objective(runs: Sequence[Run], metric: str | None = None, search: Any = None) -> Metric:
    """Return the metric that ranks runs, with its direction.

    Args:
        metric: its name, if the user has named one; else that of the search, else the score of the runs' task.
        search: ``search`` of ``sweep.json``, where the runs are those of a search.
    """
    searched, direction = text(mapping(search).get("metric")), text(mapping(search).get("direction"))
    scores = common_scores([run.spec for run in runs])
    name = metric or searched
    found = scores.find(name) if name else scores.ranking_metric(_latest_evaluations(runs))
    if found.name == searched and direction in list(Direction):
        return dataclasses.replace(found, direction=Direction(direction))
    return dataclasses.replace(found, direction=found.direction or Direction.maximize)


def search_objective(spec: Mapping[str, Any], metric: str | None, direction: Direction | None) -> Metric:
    """Return the metric that a search ranks its runs by, with its direction.

    Args:
        spec: of one of its runs, which says what the task measures.
        metric: its name; None for the score of the task.
        direction: which values are good ones; None for those that the metric says are.
    """
    scores = read_scores(spec)
    found = scores.find(metric or scores.candidates[0])
    return dataclasses.replace(found, direction=direction or found.direction or Direction.maximize)


def evaluate(run: Run, objective: Metric) -> Evaluation | None:
    """Return what a run has reached by ``objective``; None if it has not measured that."""
    rows = validations(run.folder.metrics)
    rows = rows or [row for row in (mapping(run.summary.get(key)) for key in ("best", "final")) if row]
    scored = [(value, row) for row in rows if (value := score_in(row, objective.name)) is not None]
    if not scored:
        return None
    best, row = (min if objective.lower_is_better else max)(scored, key=lambda pair: pair[0])
    return Evaluation(best, whole(row.get("step")), scored[-1][0])


def rank(runs: Sequence[Run], objective: Metric) -> Ranking:
    """Rank runs by ``objective``, whose direction is set."""
    evaluations = tuple(evaluate(run, objective) for run in runs)
    groups = group_by_seed([experiment_settings(run.spec) for run in runs])
    configurations = [_configuration(group, evaluations, objective) for group in groups]
    configurations.sort(key=lambda one: _place(_mean(one), objective))
    return _with_winners(objective, evaluations, configurations)


def _configuration(group: Sequence[int], evaluations: Sequence[Evaluation | None], objective: Metric) -> Configuration:
    best = {position: one.best for position in group if (one := evaluations[position]) is not None}
    ordered = sorted(group, key=lambda position: _place(best.get(position), objective))
    return Configuration(tuple(ordered), summarize(list(best.values())) if best else None)


def _place(value: float | None, objective: Metric) -> tuple[bool, float]:
    """Return a key that sorts the best value first and what is not known last."""
    if value is None:
        return True, 0.0
    return False, value if objective.lower_is_better else -value


def _with_winners(
    objective: Metric, evaluations: tuple[Evaluation | None, ...], configurations: Sequence[Configuration]
) -> Ranking:
    """Mark the best configurations, and in each the best runs: all that tie."""
    scored = [one for one in configurations if one.score is not None]
    leading = [one for one in scored if _mean(one) == _mean(scored[0])]
    winners = set()
    for configuration in leading:
        values = {run: one.best for run in configuration.runs if (one := evaluations[run]) is not None}
        winners |= {run for run, value in values.items() if value == values[configuration.runs[0]]}
    several = sum(one is not None for one in evaluations) > 1
    return Ranking(
        objective,
        evaluations,
        tuple(dataclasses.replace(one, winner=len(scored) > 1 and one in leading) for one in configurations),
        frozenset(winners) if several else frozenset(),
    )


def _mean(configuration: Configuration) -> float | None:
    return configuration.score.mean if configuration.score is not None else None


def _latest_evaluations(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    return [row for run in runs for row in (run.last_rows.get("val", {}), mapping(run.summary.get("final")))]
