"""Runs side by side: in which settings they differ, how far each has come, and which is best."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from launcher.runs.metric_rows import Row, best_of, lower_is_better, score, validations
from launcher.runs.find import Run
from launcher.runs.settings import SEED, changed_keys, experiment_settings
from launcher.runs.json_fields import mapping, number, whole

NUMBERS = ("step", "loss", "best", "best_step", "last", "consensus_distance", "wall_time_s")
"""What is known of a run besides its settings. ``best`` and ``last`` are of the metric."""


@dataclass(frozen=True)
class ComparisonRow:
    """One run, or several that differ in the seed only."""

    runs: tuple[Run, ...]
    settings: Mapping[str, Any]
    numbers: Mapping[str, float]
    """:data:`NUMBERS` and whatever else was measured; of several runs the means."""
    spread: Mapping[str, float] = field(default_factory=dict)
    """Sample standard deviations, where there are several runs."""
    winner: bool = False

    @property
    def states(self) -> dict[str, int]:
        """How many runs are in which state."""
        return dict(Counter(run.state for run in self.runs))


@dataclass(frozen=True)
class Comparison:
    """Runs, the best first."""

    metric: str
    smallest: bool
    """Whether small values of ``metric`` are good ones."""
    changed: Sequence[str]
    """Settings in which the runs differ."""
    lines: Sequence[ComparisonRow]


def compare(runs: Sequence[Run], metric: str, *, smallest: bool | None = None, merge_seeds: bool = False) -> Comparison:
    """Compare runs by the best value of a validation score.

    Args:
        smallest: whether small values are good ones; by default the name of the metric tells.
        merge_seeds: make one line of runs that differ in the seed only.
    """
    smallest = lower_is_better(metric) if smallest is None else smallest
    lines = [ComparisonRow((run,), experiment_settings(run.spec), numbers(run, metric, smallest=smallest)) for run in runs]
    changed = changed_keys([line.settings for line in lines])
    if merge_seeds:
        lines, changed = _merged(lines), [key for key in changed if key != SEED]
    lines.sort(key=lambda line: _rank(line, smallest=smallest))
    return Comparison(metric, smallest, changed, _with_winner(lines))


def numbers(run: Run, metric: str, *, smallest: bool) -> dict[str, float]:
    """Return what a run has measured: the latest of everything, and the best value of the metric.

    Scores of a test split are called ``SPLIT.SCORE``, such as ``test.bleu``.
    """
    train, val = run.last_rows.get("train", {}), run.last_rows.get("val", {})
    older, newer = sorted((train, val), key=lambda row: whole(row.get("step")) or 0)
    found: dict[str, Any] = {**older, **{key: value for key, value in newer.items() if value is not None}}
    rows: list[Row] = validations(run.folder.metrics)
    rows = rows or [row for row in (mapping(run.summary.get(key)) for key in ("best", "final")) if row]
    best = best_of(rows, metric, smallest=smallest)
    tests = mapping(run.summary.get("test")).items()
    found |= {f"{split}.{name}": value for split, scores in tests for name, value in mapping(scores).items()}
    found |= {
        "step": run.step,
        "loss": train.get("loss"),
        "best": best and best[1],
        "best_step": best and best[0].get("step"),
        "last": score(rows[-1], metric) if rows else None,
        "wall_time_s": found.get("wall_time_s", run.summary.get("wall_time_s")),
    }
    return {key: value for key, given in found.items() if (value := number(given)) is not None}


def _rank(line: ComparisonRow, *, smallest: bool) -> tuple[bool, float]:
    best = line.numbers.get("best")
    return best is None, 0.0 if best is None else best if smallest else -best


def _with_winner(lines: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Mark the best, and all that tie with it; one alone has won nothing."""
    scored = [line.numbers["best"] for line in lines if "best" in line.numbers]
    return [replace(line, winner=len(scored) > 1 and line.numbers.get("best") == scored[0]) for line in lines]


def _merged(lines: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    groups: dict[str, list[ComparisonRow]] = {}
    for line in lines:
        same = {key: value for key, value in line.settings.items() if key != SEED}
        what = json.dumps(same, sort_keys=True, default=str) if same else line.runs[0].run_id
        groups.setdefault(what, []).append(line)
    return [_as_one(group) for group in groups.values()]


def _as_one(lines: Sequence[ComparisonRow]) -> ComparisonRow:
    values: dict[str, list[float]] = {}
    for line in lines:
        for key, value in line.numbers.items():
            values.setdefault(key, []).append(value)
    return ComparisonRow(
        runs=tuple(run for line in lines for run in line.runs),
        settings={key: value for key, value in lines[0].settings.items() if key != SEED},
        numbers={key: statistics.fmean(given) for key, given in values.items()},
        spread={key: statistics.stdev(given) for key, given in values.items() if len(given) > 1},
    )
