"""Live progress: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from launcher.runs.number_format import format_value
from launcher.runs.scores import Scores, read_scores
from sgp_core.metrics import LOSS, find_metric

if TYPE_CHECKING:
    from rich.progress import Progress

Row = dict[str, Any]

_SECONDS_BETWEEN_LINES = 3.0


class Display(Protocol):
    """Shows the progress of one run, and keeps the latest row of each split."""

    latest: dict[str, Row]

    def show(self, row: Row) -> None:
        """Show one row of metrics (with ``total_steps``)."""

    def say(self, message: str) -> None:
        """Show a line of text."""

    def close(self) -> None:
        """Restore the terminal."""


class Screen:
    """The terminal, shared by the runs of a command: a bar for each, or plain lines where it is no terminal."""

    def __init__(self, *, many: bool = False, plain: bool = False) -> None:
        """Make it.

        Args:
            many: whether there are several runs, so that a bar is removed when its run ends.
            plain: whether to print lines even on a terminal.
        """
        self._many = many
        self._bars = None if plain or not sys.stdout.isatty() else _bars()

    def display(self, name: str, label: str = "", spec: Mapping[str, Any] | None = None) -> Display:
        """Return a display for one run.

        Args:
            label: what tells the run from others.
            spec: the run's ``spec.json``, which says what its scores are.
        """
        scores = read_scores(spec or {})
        if self._bars is None:
            return LineDisplay(label, scores)
        return BarDisplay(f"{label}{name}", self._bars, scores, removable=self._many)

    def close(self) -> None:
        """Restore the terminal."""
        if self._bars is not None:
            self._bars.stop()


class LineDisplay:
    """Plain lines: every evaluation, and training at most every few seconds."""

    def __init__(self, label: str = "", scores: Scores | None = None) -> None:
        self.latest: dict[str, Row] = {}
        self._label = label
        self._scores = scores or read_scores({})
        self._shown_at = -_SECONDS_BETWEEN_LINES

    def show(self, row: Row) -> None:
        """Print a line, unless the last one of training was printed just now."""
        self.latest[row["split"]] = row
        now = time.monotonic()
        if row["split"] == "val" or now - self._shown_at >= _SECONDS_BETWEEN_LINES:
            self._shown_at = now
            total = str(row.get("total_steps", "?"))
            where = f"step {row['step']:>{len(total)}}/{total}  epoch {row['epoch']:.2f}"
            print(f"{self._label}{where}  {describe_row(row, self._scores)}", flush=True)

    def say(self, message: str) -> None:
        """Print a line."""
        print(message, flush=True)

    def close(self) -> None:
        """Do nothing: the terminal is as it was."""


class BarDisplay:
    """A progress bar, updated in place."""

    def __init__(self, name: str, bars: Progress, scores: Scores, *, removable: bool) -> None:
        self.latest: dict[str, Row] = {}
        self._scores = scores
        self._bars = bars
        self._removable = removable
        self._task = bars.add_task(name, total=None, state="starting")
        bars.start()

    def show(self, row: Row) -> None:
        """Advance the bar."""
        self.latest[row["split"]] = row
        train, val = self.latest.get("train", {}), self.latest.get("val", {})
        parts = [f"loss {train['loss']:.4f}"] if train.get("loss") is not None else []
        parts += _scores_in_words(val, self._scores)
        self._bars.update(
            self._task, completed=row["step"], total=row.get("total_steps"), state="  ".join(parts) or "training"
        )

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._bars.console.print(message, markup=False, highlight=False)

    def close(self) -> None:
        """Stop the bar where it is, or remove it if other runs are in progress."""
        if self._removable:
            self._bars.remove_task(self._task)
        else:
            self._bars.stop()


def _bars() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )


class Tail:
    """Reads the rows that were added to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def rows(self) -> Iterator[Row]:
        """Yield new complete rows."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return
        complete = new[: new.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            yield json.loads(line)


def describe_row(row: Row, scores: Scores) -> str:
    """Return the numbers of a row that matter while a run is in progress."""
    loss, distance = row.get(LOSS.name), row.get("consensus_distance")
    parts = []
    if loss is not None:
        parts.append(f"{'validation loss' if row['split'] == 'val' else 'loss'} {loss:.4f}")
    parts += _scores_in_words(row, scores)
    if distance is not None:
        metric = find_metric("consensus_distance")
        parts.append(f"{metric.label} {format_value(metric, distance)}")
    if row["split"] == "train" and row.get("step_time_ms") is not None:
        parts.append(f"{row['step_time_ms']:.1f} ms/step")
    return "  ".join(parts)


def _scores_in_words(row: Row, scores: Scores) -> list[str]:
    return [f"{metric.label} {format_value(metric, value)}" for metric, value in scores.values_in(row)]
