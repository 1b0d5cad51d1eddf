"""A comparison of runs as a table: its columns and cells, printed for people, for a spreadsheet or for a paper."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import Any

from launcher.cli.run_fields import progress, state_or_no_folder
from launcher.cli.table_printing import print_table
from launcher.runs.comparison import NUMBERS, VIRTUAL_TIME, Comparison, ComparisonRow
from launcher.runs.find import STATES
from launcher.runs.number_format import format_std, format_value
from launcher.runs.plain_text import clean
from launcher.runs.scores import common_scores
from launcher.runs.settings import format_setting
from sgp_core.metrics import LOSS, Metric

_TITLES = {"distance": "consensus_distance", "time": "wall_time_s", "virtual_time": VIRTUAL_TIME}
"""Short titles of columns, by which users may name them as well."""


def find_column(word: str, compared: Comparison) -> str:
    """Return the column that a user means by a word: its own name, or a title."""
    objective = compared.objective.name
    return (_TITLES | ({objective: "best"} if objective not in NUMBERS else {})).get(word, word)


# -- cells ------------------------------------------------------------------------------------------------------------
def _title(column: str, compared: Comparison) -> str:
    if column == "best":
        return "validation loss" if compared.objective.name == LOSS.name else compared.objective.name
    return next((title for title, name in _TITLES.items() if name == column), column)


def value_of(row: ComparisonRow, column: str) -> Any:
    """Return a cell as data."""
    if column == "run":
        return " ".join(run.run_id for run in row.runs)
    if column == "name":
        return row.runs[0].name
    if column == "state":
        return describe_states([row]) if len(row.states) > 1 else state_or_no_folder(row.runs[0])
    if column == "seeds":
        return len(row.runs)
    return row.numbers.get(column, row.settings.get(column))


def _cell(row: ComparisonRow, column: str, compared: Comparison) -> str:
    """Return a cell as people read it."""
    value = value_of(row, column)
    if column == "step" and len(row.runs) == 1:
        return progress(row.runs[0])
    if value is None:
        return "-"
    if column not in row.numbers:  # a setting; one that a search found may have more digits than a reader wants
        return f"{value:.4g}" if isinstance(value, float) else format_setting(value)
    metric, spread = metric_of(column, row, compared), row.spread.get(column)
    shown = format_value(metric, value)
    return f"{shown} ± {format_std(metric, spread, value)}" if spread else shown


def metric_of(column: str, row: ComparisonRow, compared: Comparison) -> Metric:
    """Return what is known of the numbers in a column."""
    if column in ("best", "last"):
        return compared.objective
    name = "step" if column == "best_step" else column
    return common_scores([run.spec for run in row.runs]).find(name)


def describe_states(rows: Sequence[ComparisonRow]) -> str:
    """Return how many runs of these rows are in which state."""
    counts = {state: sum(row.states.get(state, 0) for row in rows) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _is_number(column: str, compared: Comparison) -> bool:
    return any(column in row.numbers for row in compared.rows) or column == "seeds"


# -- formats ----------------------------------------------------------------------------------------------------------
def print_text(compared: Comparison, columns: Sequence[str]) -> None:
    """Print a table for people: with an asterisk at the best rows, which a terminal shows in bold."""
    titles = [_title(column, compared) for column in columns]
    winners = [number for number, row in enumerate(compared.rows) if row.winner]
    rows = [[_cell(row, column, compared) for column in columns] for row in compared.rows]
    marks = ["*" if row.winner else "" for row in compared.rows]
    right = [title for title, column in zip(titles, columns, strict=True) if _is_number(column, compared)]
    print_table([*titles, ""], [[*row, mark] for row, mark in zip(rows, marks, strict=True)], right=right, bold=winners)


def print_csv(compared: Comparison, columns: Sequence[str]) -> None:
    """Print a table for a spreadsheet, with a column for each spread over seeds."""
    spread = {column for row in compared.rows for column in row.spread if column in columns}
    titles: list[str] = []
    lines: list[list[str]] = [[] for _ in compared.rows]
    for column in columns:
        titles.append(_raw(_title(column, compared)))
        for line, row in zip(lines, compared.rows, strict=True):
            line.append(_raw(value_of(row, column)))
        if column in spread:
            titles.append(f"{titles[-1]}_std")
            for line, row in zip(lines, compared.rows, strict=True):
                line.append(_raw(row.spread.get(column)))
    csv.writer(sys.stdout, lineterminator="\n").writerows([titles, *lines])


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What the text of a cell may not begin with: a spreadsheet would compute it."""


def _raw(value: Any) -> str:
    if value is None:
        return ""
    text = clean(format_setting(exact(value)))
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def exact(value: Any) -> Any:
    """Return a whole number, such as a step, without a decimal point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def print_markdown(compared: Comparison, columns: Sequence[str]) -> None:
    """Print a table for a paper, the best scores in bold."""
    print(_markdown_line([_title(column, compared) for column in columns]))
    print("|" + "|".join("---:" if _is_number(column, compared) else "---" for column in columns) + "|")
    for row in compared.rows:
        cells = {column: clean(_cell(row, column, compared)).replace("|", "\\|") for column in columns}
        bold = {"best": f"**{cells['best']}**"} if row.winner and "best" in cells else {}
        print(_markdown_line(list({**cells, **bold}.values())))


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
