"""Live progress of one run: a bar on a terminal, one line in a notebook, a few plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from launcher.runs.json_fields import number, whole
from launcher.runs.line_tail import LineTail
from launcher.runs.row_lines import RowLines, scores_in_words
from launcher.runs.scores import Scores

if TYPE_CHECKING:
    from rich.progress import Progress

Row = dict[str, Any]


class Display(Protocol):
    """Shows the progress of one run, and keeps the latest row of each split."""

    latest: dict[str, Row]

    def show(self, row: Row) -> None:
        """Show one row of metrics (with ``total_steps``)."""

    def say(self, message: str) -> None:
        """Show a line of text."""

    def close(self) -> None:
        """Restore the terminal."""


class LineDisplay:
    """Plain lines, those of :class:`RowLines`."""

    def __init__(self, label: str = "", scores: Scores | None = None) -> None:
        self.latest: dict[str, Row] = {}
        self._label = label
        self._lines = RowLines(scores)

    def show(self, row: Row) -> None:
        """Print a line, unless the last one of training was printed just now."""
        self.latest[row["split"]] = row
        line = self._lines.line(row)
        if line is not None:
            print(f"{self._label}{line}", flush=True)

    def say(self, message: str) -> None:
        """Print a line."""
        print(message, flush=True)

    def close(self) -> None:
        """Do nothing: the terminal is as it was."""


class BarDisplay:
    """A progress bar, updated in place."""

    def __init__(self, title: str, bars: Progress, scores: Scores, *, removable: bool) -> None:
        self.latest: dict[str, Row] = {}
        self._scores = scores
        self._bars = bars
        self._removable = removable
        self._task = bars.add_task(title, total=None, state="starting")
        bars.start()

    def show(self, row: Row) -> None:
        """Advance the bar."""
        self.latest[row["split"]] = row
        state = describe_state(self.latest, self._scores)
        self._bars.update(self._task, completed=row["step"], total=row.get("total_steps"), state=state)

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._bars.console.print(message, markup=False, highlight=False)

    def close(self) -> None:
        """Stop the bar where it is, or remove it if other runs are in progress."""
        if self._removable:
            self._bars.remove_task(self._task)
        else:
            self._bars.stop()


class Tail:
    """Reads the rows that were added to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self._lines = LineTail(path)

    def rows(self) -> Iterator[Row]:
        """Yield new complete rows; a line that holds none, as a full disk leaves it, is passed over."""
        yield from filter(_is_row, self._lines.objects())


def _is_row(found: Row) -> bool:
    known = isinstance(found.get("split"), str) and whole(found.get("step")) is not None
    return known and number(found.get("epoch")) is not None


def describe_state(latest: dict[str, Row], scores: Scores) -> str:
    """Return the loss and the scores of the latest rows, for the end of a bar."""
    train, val = latest.get("train", {}), latest.get("val", {})
    parts = [f"loss {train['loss']:.4f}"] if train.get("loss") is not None else []
    return "  ".join([*parts, *scores_in_words(val, scores)]) or "training"
