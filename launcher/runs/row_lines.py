"""Rows of metrics as lines of text, while a run is in progress: on a terminal, and in the logs of its workers."""

from __future__ import annotations

import time
from typing import Any

from launcher.runs.number_format import format_value
from launcher.runs.scores import Scores, read_scores
from sgp_core.metrics import LOSS, find_metric

_SECONDS_BETWEEN_LINES = 3.0


class RowLines:
    """Chooses the rows that are worth a line: every evaluation, and training at most every few seconds."""

    def __init__(self, scores: Scores | None = None) -> None:
        """Make it.

        Args:
            scores: of the run's task; by default those of version 0.1.
        """
        self._scores = scores or read_scores({})
        self._latest = -_SECONDS_BETWEEN_LINES

    def line(self, row: dict[str, Any]) -> str | None:
        """Return the line of a row (with ``total_steps``), None if the last one of training was just now."""
        now = time.monotonic()
        if row["split"] != "val" and now - self._latest < _SECONDS_BETWEEN_LINES:
            return None
        self._latest = now
        total = str(row.get("total_steps", "?"))
        return f"step {row['step']:>{len(total)}}/{total}  epoch {row['epoch']:.2f}  {describe_row(row, self._scores)}"


def describe_row(row: dict[str, Any], scores: Scores) -> str:
    """Return the numbers of a row that matter while a run is in progress."""
    loss, distance = row.get(LOSS.name), row.get("consensus_distance")
    parts = []
    if loss is not None:
        parts.append(f"{'validation loss' if row['split'] == 'val' else 'loss'} {loss:.4f}")
    parts += scores_in_words(row, scores)
    if distance is not None:
        metric = find_metric("consensus_distance")
        parts.append(f"{metric.label} {format_value(metric, distance)}")
    if row["split"] == "train" and row.get("step_time_ms") is not None:
        parts.append(f"{row['step_time_ms']:.1f} ms/step")
    return "  ".join(parts)


def scores_in_words(row: dict[str, Any], scores: Scores) -> list[str]:
    """Return the scores in a row, each with its name."""
    return [f"{metric.label} {format_value(metric, value)}" for metric, value in scores.values_in(row)]
