"""Runs side by side: the settings in which they differ, what they have measured, and which is best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.runs.json_fields import mapping, number, whole
from launcher.runs.ranking import Evaluation, Ranking, rank
from launcher.runs.run import Run
from launcher.runs.seeds import summarize
from launcher.runs.settings import SEED, changed_keys, experiment_settings
from sgp_core.metrics import Metric

NUMBERS = ("step", "loss", "best", "best_step", "last", "consensus_distance", "wall_time_s")
"""What a comparison says of a run besides its settings. ``best`` and ``last`` are values of the objective."""
VIRTUAL_TIME = "virtual_time_s"
"""What it says besides of a run that has a virtual clock."""


@dataclass(frozen=True)
class ComparisonRow:
    """One run, or the runs of one configuration.

    Attributes:
        settings: those of the runs; of a configuration without the seed.
        numbers: :data:`NUMBERS` and whatever else was measured; of several runs the means.
        spread: of several runs, the sample standard deviations.
        winner: whether no other row is better.
    """

    runs: tuple[Run, ...]
    settings: Mapping[str, Any]
    numbers: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)
    winner: bool = False

    @property
    def states(self) -> dict[str, int]:
        """How many runs are in which state."""
        return dict(Counter(run.state for run in self.runs))


@dataclass(frozen=True)
class Comparison:
    """Runs or configurations, the best first.

    Attributes:
        objective: the metric that ranks them.
        changed: the settings in which the runs differ.
        seeds: whether some runs differ by their seed only.
    """

    objective: Metric
    changed: Sequence[str]
    rows: Sequence[ComparisonRow]
    seeds: bool


def compare(runs: Sequence[Run], objective: Metric, *, merge_seeds: bool = False) -> Comparison:
    """Compare runs by ``objective``, whose direction is set.

    Args:
        merge_seeds: make one row of the runs that differ by their seed only.
    """
    ranking = rank(runs, objective)
    settings = [experiment_settings(run.spec) for run in runs]
    numbers = [numbers_of(run, evaluation) for run, evaluation in zip(runs, ranking.evaluations, strict=True)]
    changed = changed_keys(settings)
    if merge_seeds:
        rows, changed = _configuration_rows(runs, settings, numbers, ranking), [key for key in changed if key != SEED]
    else:
        rows = [
            ComparisonRow((runs[run],), settings[run], numbers[run], winner=run in ranking.winners)
            for run in ranking.order
        ]
    return Comparison(objective, changed, rows, any(len(one.runs) > 1 for one in ranking.configurations))


def numbers_of(run: Run, evaluation: Evaluation | None) -> dict[str, float]:
    """Return what a run has measured: the latest of everything, and its evaluation by the objective.

    Scores of a test split are called ``SPLIT.SCORE``.
    """
    train, val = run.last_rows.get("train", {}), run.last_rows.get("val", {})
    older, newer = sorted((train, val), key=lambda row: whole(row.get("step")) or 0)
    found: dict[str, Any] = {**older, **{key: value for key, value in newer.items() if value is not None}}
    tests = mapping(run.summary.get("test")).items()
    found |= {f"{split}.{name}": value for split, scores in tests for name, value in mapping(scores).items()}
    found |= {
        "step": run.step,
        "loss": train.get("loss"),
        "best": evaluation and evaluation.best,
        "best_step": evaluation and evaluation.best_step,
        "last": evaluation and evaluation.last,
        "wall_time_s": found.get("wall_time_s", run.summary.get("wall_time_s")),
    }
    return {key: value for key, given in found.items() if (value := number(given)) is not None}


def _configuration_rows(
    runs: Sequence[Run],
    settings: Sequence[Mapping[str, Any]],
    numbers: Sequence[Mapping[str, float]],
    ranking: Ranking,
) -> list[ComparisonRow]:
    rows = []
    for configuration in ranking.configurations:
        members = configuration.runs
        names = dict.fromkeys(name for member in members for name in numbers[member])
        samples = {
            name: summarize([numbers[member][name] for member in members if name in numbers[member]]) for name in names
        }
        rows.append(
            ComparisonRow(
                runs=tuple(runs[member] for member in members),
                settings={key: value for key, value in settings[members[0]].items() if key != SEED},
                numbers={name: sample.mean for name, sample in samples.items()},
                spread={name: sample.std for name, sample in samples.items() if sample.std is not None},
                winner=configuration.winner,
            )
        )
    return rows
