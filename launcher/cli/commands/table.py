"""``sgp table``: the runs of a sweep side by side."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, TargetArguments
from launcher.cli.run_fields import progress, state_or_no_folder
from launcher.cli.table_printing import clean, print_table
from launcher.runs.comparison import NUMBERS, Comparison, ComparisonRow, compare
from launcher.runs.find import STATES, Run, Sweep, find, find_runs
from launcher.runs.number_format import format_std, format_value
from launcher.runs.ranking import choose_objective
from launcher.runs.scores import common_scores
from launcher.runs.settings import format_setting, nearest
from sgp_core.errors import ConfigurationError
from sgp_core.metrics import LOSS, Metric

_ABOUT = ("run", "name", "state", "seeds")
_ALIASES = {"distance": "consensus_distance", "time": "wall_time_s"}
"""Short titles of columns, which --columns takes as well."""


class Format(StrEnum):
    """How a table is printed."""

    terminal = "terminal"
    csv = "csv"
    markdown = "markdown"
    json = "json"


def table(
    targets: TargetArguments,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Metric that ranks the runs; by default the search's, else the task's score."
        ),
    ] = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="One line for runs that differ by their seed only: mean ± std over seeds.")
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN,...",
            help="Only these: names of settings, best, last, or of anything measured, as in algorithm,best,bytes_sent.",
        ),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.terminal,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Compare runs: what differs, how far they are, the best on top."""
    sweep = found if len(targets) == 1 and isinstance(found := find(targets[0], runs_dir), Sweep) else None
    runs = find_runs(targets, runs_dir)
    if not runs:
        raise ConfigurationError(f"sweep {targets[0]} has no runs: its sweep.json is empty or cannot be read")
    compared = _compare(runs, metric, sweep, mean=mean)
    known = {*_ABOUT, *(key for row in compared.rows for key in (*row.settings, *row.numbers))}
    chosen = _choose_columns(columns, compared, known, mean=mean)
    if as_json or form == Format.json:
        print_json({"sweep_id": sweep.sweep_id if sweep else None, **as_data(compared, chosen, mean=mean)})
    elif form == Format.csv:
        _print_csv(compared, chosen)
    elif form == Format.markdown:
        _print_markdown(compared, chosen)
    else:
        what = f"sweep {sweep.sweep_id}" if sweep else f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        print(f"{what}: {_count_states(compared.rows)}; {_describe_order(compared, mean=mean)}")
        _print_text(compared, chosen)


def as_data(compared: Comparison, columns: Sequence[str], *, mean: bool) -> dict[str, Any]:
    """Return a comparison as plain data."""
    rows = []
    for row in compared.rows:
        about = {"runs": [run.run_id for run in row.runs], "states": row.states} if mean else _describe(row.runs[0])
        settings = {key: row.settings.get(key) for key in compared.changed}
        wanted = [*NUMBERS, *(key for key in columns if key in row.numbers)]
        numbers = {key: _exact(row.numbers.get(key)) for key in dict.fromkeys(wanted)}
        spread = {"spread": {key: row.spread[key] for key in numbers if key in row.spread}} if mean else {}
        rows.append({**about, "settings": settings, **numbers, **spread, "winner": row.winner})
    better = "lower" if compared.objective.lower_is_better else "higher"
    return {"metric": compared.objective.name, "better": better, "changed": list(compared.changed), "rows": rows}


def _describe(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "state": run.state,
        "note": run.note,
        "total_steps": run.total_steps,
    }


def _describe_order(compared: Comparison, *, mean: bool) -> str:
    """Return how the rows are ordered, and what ± stands for."""
    objective = compared.objective.name
    if not compared.seeds:
        return f"best {objective} on top"
    return f"best mean {objective} over seeds on top{', ± std over seeds' if mean else ''}"


def _compare(runs: Sequence[Run], metric: str | None, sweep: Sweep | None, *, mean: bool) -> Comparison:
    """Compare the runs.

    Raises:
        ConfigurationError: validation has not measured what the user named.
    """
    objective = choose_objective(runs, metric, sweep.record.get("search") if sweep else None)
    compared = compare(runs, objective, merge_seeds=mean)
    measured = {key for run in runs for key in run.last_rows.get("val", {})}
    if metric and measured and not any("best" in row.numbers for row in compared.rows):
        raise ConfigurationError(f"--metric {metric}: validation has measured no such thing{nearest(metric, measured)}")
    return compared


def _choose_columns(given: str | None, compared: Comparison, known: set[str], *, mean: bool) -> list[str]:
    """Return the columns to print.

    Raises:
        ConfigurationError: no run has a column that is named.
    """
    if given is None:
        who = "seeds" if mean else "run"
        return [who, *compared.changed, "state", "step", "loss", "best", "last", "consensus_distance", "wall_time_s"]
    named = [word.strip() for word in given.split(",") if word.strip()]
    objective = compared.objective.name
    aliases = _ALIASES | ({objective: "best"} if objective not in NUMBERS else {})
    chosen = [aliases.get(word, word) for word in named]
    for word in chosen:
        if word not in known | set(NUMBERS):
            raise ConfigurationError(f"--columns {word}: no run has that{nearest(word, known)}")
    if not chosen:
        raise ConfigurationError("--columns needs at least one column, such as algorithm,best")
    return chosen


# -- cells ------------------------------------------------------------------------------------------------------------
def _title(column: str, compared: Comparison) -> str:
    if column == "best":
        return "validation loss" if compared.objective.name == LOSS.name else compared.objective.name
    return next((title for title, name in _ALIASES.items() if name == column), column)


def _value(row: ComparisonRow, column: str) -> Any:
    """Return a cell as data."""
    if column == "run":
        return " ".join(run.run_id for run in row.runs)
    if column == "name":
        return row.runs[0].name
    if column == "state":
        return _count_states([row]) if len(row.states) > 1 else state_or_no_folder(row.runs[0])
    if column == "seeds":
        return len(row.runs)
    return row.numbers.get(column, row.settings.get(column))


def _cell(row: ComparisonRow, column: str, compared: Comparison) -> str:
    """Return a cell as people read it."""
    value = _value(row, column)
    if column == "step" and len(row.runs) == 1:
        return progress(row.runs[0])
    if value is None:
        return "-"
    if column not in row.numbers:  # a setting; one that a search found may have more digits than a reader wants
        return f"{value:.4g}" if isinstance(value, float) else format_setting(value)
    metric, spread = _metric_of(column, row, compared), row.spread.get(column)
    shown = format_value(metric, value)
    return f"{shown} ± {format_std(metric, spread, value)}" if spread else shown


def _metric_of(column: str, row: ComparisonRow, compared: Comparison) -> Metric:
    """Return what is known of the numbers in a column."""
    if column in ("best", "last"):
        return compared.objective
    name = "step" if column == "best_step" else column
    return common_scores([run.spec for run in row.runs]).find(name)


def _count_states(rows: Sequence[ComparisonRow]) -> str:
    counts = {state: sum(row.states.get(state, 0) for row in rows) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _is_number(column: str, compared: Comparison) -> bool:
    return any(column in row.numbers for row in compared.rows) or column == "seeds"


# -- formats ----------------------------------------------------------------------------------------------------------
def _print_text(compared: Comparison, columns: Sequence[str]) -> None:
    titles = [_title(column, compared) for column in columns]
    winners = [number for number, row in enumerate(compared.rows) if row.winner]
    rows = [[_cell(row, column, compared) for column in columns] for row in compared.rows]
    marks = ["*" if row.winner else "" for row in compared.rows]
    right = [title for title, column in zip(titles, columns, strict=True) if _is_number(column, compared)]
    print_table([*titles, ""], [[*row, mark] for row, mark in zip(rows, marks, strict=True)], right=right, bold=winners)


def _print_csv(compared: Comparison, columns: Sequence[str]) -> None:
    spread = {column for row in compared.rows for column in row.spread if column in columns}
    titles: list[str] = []
    lines: list[list[str]] = [[] for _ in compared.rows]
    for column in columns:
        titles.append(_title(column, compared))
        for line, row in zip(lines, compared.rows, strict=True):
            line.append(_raw(_value(row, column)))
        if column in spread:
            titles.append(f"{titles[-1]}_std")
            for line, row in zip(lines, compared.rows, strict=True):
                line.append(_raw(row.spread.get(column)))
    csv.writer(sys.stdout, lineterminator="\n").writerows([titles, *lines])


def _raw(value: Any) -> str:
    if value is None:
        return ""
    return clean(format_setting(_exact(value)))


def _exact(value: Any) -> Any:
    """Return a whole number, such as a step, without a decimal point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _print_markdown(compared: Comparison, columns: Sequence[str]) -> None:
    print(_markdown_line([_title(column, compared) for column in columns]))
    print("|" + "|".join("---:" if _is_number(column, compared) else "---" for column in columns) + "|")
    for row in compared.rows:
        cells = {column: clean(_cell(row, column, compared)).replace("|", "\\|") for column in columns}
        bold = {"best": f"**{cells['best']}**"} if row.winner and "best" in cells else {}
        print(_markdown_line(list({**cells, **bold}.values())))


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
