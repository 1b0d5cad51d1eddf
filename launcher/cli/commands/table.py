"""``sgp table``: the runs of a sweep side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from launcher.cli.comparison_table import (
    describe_states,
    exact,
    find_column,
    metric_of,
    print_csv,
    print_markdown,
    print_text,
    value_of,
)
from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, complete_targets
from launcher.runs.comparison import NUMBERS, VIRTUAL_TIME, Comparison, ComparisonRow, compare
from launcher.runs.find import Run, Sweep, all_runs, find, find_runs
from launcher.runs.json_fields import number
from launcher.runs.ranking import choose_objective
from launcher.runs.settings import format_setting, nearest
from sgp_core.errors import ConfigurationError

_ABOUT = ("run", "name", "state", "seeds")


class Format(StrEnum):
    """How a table is printed."""

    terminal = "terminal"
    csv = "csv"
    markdown = "markdown"
    json = "json"


def table(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|SWEEP]...",
            help="Ids, or the beginnings of them; by default all runs.",
            autocompletion=complete_targets,
        ),
    ] = None,
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
    sort: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Order by this column, the best or largest on top; by default by rank."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.terminal,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Compare runs: what differs, how far they are, the best on top."""
    runs, sweep = _find(targets or [], runs_dir)
    compared = _compare(runs, metric, sweep, mean=mean)
    known = {*_ABOUT, *(key for row in compared.rows for key in (*row.settings, *row.numbers))}
    chosen = _choose_columns(columns, compared, known, mean=mean)
    if sort is not None:
        compared = _sort(compared, sort, known)
    if as_json or form == Format.json:
        print_json({"sweep_id": sweep.sweep_id if sweep else None, **as_data(compared, chosen, mean=mean)})
    elif form == Format.csv:
        print_csv(compared, chosen)
    elif form == Format.markdown:
        print_markdown(compared, chosen)
    else:
        what = f"sweep {sweep.sweep_id}" if sweep else f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        order = f"ordered by {sort}" if sort is not None else _describe_order(compared, mean=mean)
        print(f"{what}: {describe_states(compared.rows)}; {order}")
        print_text(compared, chosen)


def _find(targets: Sequence[str], runs_dir: Path) -> tuple[list[Run], Sweep | None]:
    """Return the runs to compare, and the sweep if they are those of one.

    Raises:
        ConfigurationError: there are none.
    """
    if not targets:
        if not (runs := all_runs(runs_dir)):
            raise ConfigurationError(f"there are no runs in {runs_dir}; --runs-dir says where to look")
        return runs, None
    sweep = found if len(targets) == 1 and isinstance(found := find(targets[0], runs_dir), Sweep) else None
    runs = find_runs(targets, runs_dir)
    if not runs:
        raise ConfigurationError(f"sweep {targets[0]} has no runs: its sweep.json is empty or cannot be read")
    return runs, sweep


def as_data(compared: Comparison, columns: Sequence[str], *, mean: bool) -> dict[str, Any]:
    """Return a comparison as plain data."""
    rows = []
    for row in compared.rows:
        about = {"runs": [run.run_id for run in row.runs], "states": row.states} if mean else _describe(row.runs[0])
        settings = {key: row.settings.get(key) for key in compared.changed}
        wanted = [*NUMBERS, *(key for key in (VIRTUAL_TIME, *columns) if key in row.numbers)]
        numbers = {key: exact(row.numbers.get(key)) for key in dict.fromkeys(wanted)}
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
        times = ["wall_time_s", *([VIRTUAL_TIME] if _differs(VIRTUAL_TIME, compared) else [])]
        return [who, *compared.changed, "state", "step", "loss", "best", "last", "consensus_distance", *times]
    named = [word.strip() for word in given.split(",") if word.strip()]
    chosen = [find_column(word, compared) for word in named]
    for word in chosen:
        if word not in known | set(NUMBERS):
            raise ConfigurationError(f"--columns {word}: no run has that{nearest(word, known)}")
    if not chosen:
        raise ConfigurationError("--columns needs at least one column, such as algorithm,best")
    return chosen


def _differs(column: str, compared: Comparison) -> bool:
    return len({row.numbers.get(column) for row in compared.rows}) > 1


def _sort(compared: Comparison, key: str, known: set[str]) -> Comparison:
    """Return the comparison in the order of a column, rows without a value last.

    Raises:
        ConfigurationError: no run has such a column.
    """
    column = find_column(key, compared)
    if column not in known | set(NUMBERS):
        raise ConfigurationError(f"--sort {key}: no run has that{nearest(key, known | set(NUMBERS))}")

    def place(row: ComparisonRow) -> tuple[bool, bool, float, str]:
        value = value_of(row, column)
        size = number(value)
        if size is None:
            return value is None, True, 0.0, format_setting(value)
        rises = column not in row.numbers or metric_of(column, row, compared).lower_is_better
        return False, False, size if rises else -size, ""

    return dataclasses.replace(compared, rows=sorted(compared.rows, key=place))
