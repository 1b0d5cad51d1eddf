"""Looking on until runs have ended: in place on a terminal, elsewhere a line for each change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from launcher.cli.run_fields import format_number, loss_of, progress, score_of
from launcher.cli.runs import COLUMNS, RIGHT, cells
from launcher.cli.status_view import View, show
from launcher.cli.table_printing import clean, drawn
from launcher.runs.find import Run
from launcher.runs.liveness import LIVE

if TYPE_CHECKING:
    from rich.console import Group

LOOK_S = 1.0
_PROGRESS_S = 3.0
"""How often progress alone is worth a line."""


def goes_on(run: Run) -> bool:
    """Whether more may come from a run.

    Whatever its files say, it may while SLURM has its job: workers that save and end to be queued again do not know
    of the latter, where it was not them who asked for it.
    """
    return run.state in LIVE or run.queued is not None


def stay(look: Callable[[], View], view: View) -> View:
    """Show what ``look`` sees until everything has ended; return what it saw last."""
    if sys.stdout.isatty():
        return _in_place(look, view)
    lines = _Lines()
    lines.show(view)
    while any(goes_on(run) for run in view.runs):
        time.sleep(LOOK_S)
        view = look()
        lines.show(view)
    if view.runs:
        print()
    show(view)
    return view


def _in_place(look: Callable[[], View], view: View) -> View:
    from rich.live import Live

    with Live(_drawn(view), auto_refresh=False, transient=True) as live:
        while any(goes_on(run) for run in view.runs):
            time.sleep(LOOK_S)
            view = look()
            live.update(_drawn(view), refresh=True)
    show(view)  # whole, where the screen may have been too small
    return view


def _drawn(view: View) -> Group:
    from rich.console import Group
    from rich.text import Text

    heading = Text("\n".join(view.heading()), no_wrap=False)
    if view.single:
        return Group(heading)
    return Group(heading, drawn(COLUMNS, [cells(run) for run in view.runs], right=RIGHT))


class _Lines:
    """Remembers what it has said."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, str | None]] = {}
        self._steps: dict[str, tuple[int, float]] = {}

    def show(self, view: View) -> None:
        """Print a line for each run that stands otherwise than before, or has come further for a while."""
        for run in view.runs:
            now, stands = time.monotonic(), (run.state, run.note)
            step, at = self._steps.get(run.run_id, (run.step, now - _PROGRESS_S))
            further = run.step > step and now - at >= _PROGRESS_S
            if stands != self._said.get(run.run_id) or further:
                self._said[run.run_id], self._steps[run.run_id] = stands, (run.step, now)
                print(clean(f"{time.strftime('%H:%M:%S')}  {run.run_id}  {_line(run)}"), flush=True)


def _line(run: Run) -> str:
    score, value = score_of(run)
    numbers = [("loss", loss_of(run)), (score.label if score is not None else "", value)]
    measured = "".join(f"  {name} {format_number(number)}" for name, number in numbers if number is not None)
    note = f" ({run.note})" if run.note else ""
    return f"{run.name}: {run.state}{note}, step {progress(run)}{measured}"
