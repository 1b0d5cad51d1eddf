"""Where a command shows the progress of its runs, and in which form."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.console.notebook import NotebookDisplay, NotebookLine, in_notebook
from launcher.console.progress import BarDisplay, Display, LineDisplay
from launcher.runs.scores import read_scores

if TYPE_CHECKING:
    from rich.progress import Progress


class Screen:
    """The output of a command, shared by its runs.

    A terminal shows a bar for each run, a notebook one line for all, anything else plain lines.
    """

    def __init__(self, *, many: bool = False, plain: bool = False) -> None:
        """Make it.

        Args:
            many: whether there are several runs, so that a bar is removed when its run ends.
            plain: whether to print lines even on a terminal.
        """
        self._many = many
        self._line = NotebookLine() if in_notebook() and not plain else None
        self._bars = None if plain or self._line or not sys.stdout.isatty() else _bars()

    def display(self, title: str, label: str = "", spec: Mapping[str, Any] | None = None) -> Display:
        """Return a display for one run.

        Args:
            title: what the run is called among those of the command.
            label: its number among them; empty if it is alone.
            spec: the run's ``spec.json``, which says what its scores are.
        """
        scores = read_scores(spec or {})
        if self._line is not None:
            return NotebookDisplay(f"{label}{title}", self._line, scores)
        if self._bars is not None:
            return BarDisplay(f"{label}{title}", self._bars, scores, removable=self._many)
        return LineDisplay(f"{label}{title}: " if label else "", scores)

    def close(self) -> None:
        """Restore the terminal."""
        if self._bars is not None:
            self._bars.stop()
        if self._line is not None:
            self._line.end()


def _bars() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
