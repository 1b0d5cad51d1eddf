"""The table of runs that ``sgp runs`` and ``sgp status`` print, a line for each run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from launcher.cli.run_fields import format_number, last_sign_age, loss_of, progress, score_of, state_or_no_folder, where
from launcher.cli.table_printing import print_table
from launcher.runs.find import Run

COLUMNS = ("run", "name", "state", "step", "loss", "score", "seen", "where")
RIGHT = ("step", "loss", "score", "seen")
_MOST_NOTES = 3


def print_runs(runs: Sequence[Run]) -> None:
    """Print the table, and below it why states could not be checked."""
    print_table(COLUMNS, [cells(run) for run in runs], right=RIGHT)
    _print_notes(runs)


def cells(run: Run) -> list[str]:
    """Return a run's line in a table of runs, a cell for each of :data:`COLUMNS`."""
    _, score = score_of(run)
    numbers = [progress(run), format_number(loss_of(run)), format_number(score)]
    return [run.run_id, run.name, state_or_no_folder(run), *numbers, last_sign_age(run), where(run)]


def _print_notes(found: Collection[Run]) -> None:
    """Name the runs whose states are only what their files say."""
    notes = [f"{run.run_id}: {run.note}" for run in found if not run.verified]
    for note in notes[:_MOST_NOTES]:
        print(note)
    if len(notes) > _MOST_NOTES:
        print(f"... and {len(notes) - _MOST_NOTES} more runs that were not checked")
