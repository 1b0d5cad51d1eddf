"""Progress in a notebook: one line of text, which a carriage return overwrites.

A notebook runs commands on a pseudo-terminal but does not move the cursor up, so a bar that is drawn ten times a second
leaves hundreds of copies. It does obey the carriage return.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from launcher.console.progress import Row, describe_state
from launcher.runs.scores import Scores

_FRAMES = 40
"""The most times that a run draws its line before its end."""
_WIDTH = 20


def in_notebook() -> bool:
    """Whether output goes to a notebook: this process is a kernel of Jupyter, or one started it (``!sgp-train``)."""
    by_jupyter = "JPY_PARENT_PID" in os.environ
    by_kernel = "backend_inline" in os.environ.get("MPLBACKEND", "")  # kernels of editors set only this
    return by_jupyter or by_kernel or "ipykernel" in sys.modules


@dataclass
class NotebookLine:
    """The line that the runs of a command share: it shows the one that has progressed last."""

    _drawn: int = field(default=0, init=False)

    def draw(self, text: str) -> None:
        """Replace the line."""
        print(f"\r{text.ljust(self._drawn)}", end="", flush=True)
        self._drawn = len(text)

    def end(self) -> None:
        """Let the line stand, and begin another one where something was drawn."""
        if self._drawn:
            print(flush=True)
        self._drawn = 0


class NotebookDisplay:
    """The progress of one run on a line that is overwritten, at most :data:`_FRAMES` times, and at the end."""

    def __init__(self, title: str, line: NotebookLine, scores: Scores) -> None:
        self.latest: dict[str, Row] = {}
        self._title, self._line, self._scores = title, line, scores
        self._frame = -1

    def show(self, row: Row) -> None:
        """Draw the line, if the run has come visibly further."""
        self.latest[row["split"]] = row
        total = row.get("total_steps") or 0
        frame = _FRAMES * row["step"] // total if total else 0
        if frame == self._frame and row["step"] != total:
            return
        self._frame = frame
        filled = min(_WIDTH, _WIDTH * row["step"] // total) if total else 0
        bar = "#" * filled + "." * (_WIDTH - filled)
        state = describe_state(self.latest, self._scores)
        self._line.draw(f"{self._title} [{bar}] {row['step']}/{total or '?'}  {state}")

    def say(self, message: str) -> None:
        """Print a line of its own."""
        self._line.end()
        print(message, flush=True)

    def close(self) -> None:
        """Let the line stand as it is."""
        self._line.end()
