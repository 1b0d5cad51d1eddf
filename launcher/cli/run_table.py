"""The table of runs that ``sgp runs`` and ``sgp status`` print, a line for each run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from launcher.cli.run_fields import format_number, last_sign_age, loss_of, progress, score_of, state_or_no_folder, where
from launcher.cli.table_printing import print_table
from launcher.runs.find import Run

RIGHT = ("step", "loss", "score", "seen")
_COLUMNS = ("run", "name", "state", "step", "loss", "score", "seen", "where")
_POINT = "settings"
"""The column of what tells runs of a sweep apart, left out where no run is of a sweep."""
_MOST_NOTES = 3


def print_runs(runs: Sequence[Run]) -> None:
    """Print the table, and below it why states could not be checked."""
    columns, rows = table_of(runs)
    print_table(columns, rows, right=RIGHT)
    _print_notes(runs)


def table_of(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Return the columns of a table of runs, and a line of cells for each run.

    Scores are named where the runs have different ones.
    """
    columns = list(_COLUMNS)
    several = len({score.name for score, _ in map(score_of, runs) if score is not None}) > 1
    lines = [_cells(run, name_score=several) for run in runs]
    if any(run.point for run in runs):
        columns.insert(2, _POINT)
        for run, line in zip(runs, lines, strict=True):
            line.insert(2, run.point)
    return columns, lines


def _cells(run: Run, *, name_score: bool) -> list[str]:
    metric, score = score_of(run)
    shown = format_number(score)
    if name_score and metric is not None:
        shown = f"{metric.label} {shown}"
    numbers = [progress(run), format_number(loss_of(run)), shown]
    return [run.run_id, run.name, state_or_no_folder(run), *numbers, last_sign_age(run), where(run)]


def _print_notes(found: Collection[Run]) -> None:
    """Name the runs whose states are only what their files say."""
    notes = [f"{run.run_id}: {run.note}" for run in found if not run.verified]
    for note in notes[:_MOST_NOTES]:
        print(note)
    if len(notes) > _MOST_NOTES:
        print(f"... and {len(notes) - _MOST_NOTES} more runs that were not checked")
