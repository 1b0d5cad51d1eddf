"""``sgp status --watch``: follow runs until they have ended, in place on a terminal, elsewhere line by line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from launcher.cli.run_fields import format_number, loss_of, progress, score_of
from launcher.cli.run_table import RIGHT, table_of
from launcher.cli.status_view import View, show
from launcher.cli.table_printing import rich_table
from launcher.runs.find import Run
from launcher.runs.liveness import LIVE
from launcher.runs.plain_text import clean

if TYPE_CHECKING:
    from rich.console import Group

_LOOK_S = 1.0
_PROGRESS_S = 3.0
"""The least time between two lines that show progress alone."""


def goes_on(run: Run) -> bool:
    """Whether a run may still change.

    It may as long as SLURM has its job, whatever its files say: a job that SLURM itself queues again ends like any
    other for its workers.
    """
    return run.state in LIVE or run.queued is not None


def wait() -> None:
    """Wait until it is time to look again."""
    time.sleep(_LOOK_S)


def follow(look: Callable[[], View], view: View) -> View:
    """Show the views that ``look`` returns until all their runs have ended; return the last view."""
    if sys.stdout.isatty():
        return _in_place(look, view)
    lines = _Lines()
    lines.show(view)
    while any(goes_on(run) for run in view.runs):
        wait()
        view = look()
        lines.show(view)
    if view.runs:
        print()
    show(view)
    return view


def _in_place(look: Callable[[], View], view: View) -> View:
    from rich.live import Live

    with Live(_renderable(view), auto_refresh=False, transient=True) as live:
        while any(goes_on(run) for run in view.runs):
            wait()
            view = look()
            live.update(_renderable(view), refresh=True)
    show(view)  # in full: the screen may have been too small
    return view


def _renderable(view: View) -> Group:
    from rich.console import Group
    from rich.text import Text

    heading = Text("\n".join(view.heading()), no_wrap=False)
    if view.single:
        return Group(heading)
    columns, rows = table_of(view.runs)
    return Group(heading, rich_table(columns, rows, right=RIGHT))


class _Lines:
    """Prints a line for each change, and remembers what it has printed."""

    def __init__(self) -> None:
        self._printed: dict[str, tuple[str, str | None]] = {}
        self._steps: dict[str, tuple[int, float]] = {}

    def show(self, view: View) -> None:
        """Print a line for each run whose state has changed, or that has progressed for some seconds."""
        for run in view.runs:
            now, state = time.monotonic(), (run.state, run.note)
            step, at = self._steps.get(run.run_id, (run.step, now - _PROGRESS_S))
            further = run.step > step and now - at >= _PROGRESS_S
            if state != self._printed.get(run.run_id) or further:
                self._printed[run.run_id], self._steps[run.run_id] = state, (run.step, now)
                print(clean(f"{time.strftime('%H:%M:%S')}  {run.run_id}  {_line(run)}"), flush=True)


def _line(run: Run) -> str:
    score, value = score_of(run)
    numbers = [("loss", loss_of(run)), (score.label if score is not None else "", value)]
    measured = "".join(f"  {name} {format_number(number)}" for name, number in numbers if number is not None)
    note = f" ({run.note})" if run.note else ""
    return f"{run.point or run.name}: {run.state}{note}, step {progress(run)}{measured}"
