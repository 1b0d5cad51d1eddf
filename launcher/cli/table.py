"""``sgp table``: the runs of a sweep side by side."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, TargetArguments
from launcher.cli.run_fields import progress, stands
from launcher.cli.table_printing import clean, print_table
from launcher.report.number_format import decimals, duration, milliseconds, plain, size, small
from launcher.runs.comparison import NUMBERS, Comparison, ComparisonRow, compare
from launcher.runs.find import STATES, Run, Sweep, find, find_runs
from launcher.runs.json_fields import mapping, text
from launcher.runs.metric_rows import usual_metric
from launcher.runs.settings import nearest, written
from sgp_core.errors import ConfigurationError

_ABOUT = ("run", "name", "state", "seeds")
_TITLES = {"consensus_distance": "distance", "wall_time_s": "time"}
_SHOW: Mapping[str, Callable[[float], str]] = {
    "step": lambda value: f"{value:.0f}",
    "best_step": lambda value: f"{value:.0f}",
    "consensus_distance": small,
    "wall_time_s": duration,
    "bytes_sent": size,
    "step_time_ms": milliseconds,
    "data_time_ms": milliseconds,
    "compute_time_ms": milliseconds,
    "comm_time_ms": milliseconds,
    "samples_per_s": lambda value: f"{value:,.0f}",
}


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
            metavar="NAME", help="Validation score that decides; by default a search's, accuracy, BLEU or perplexity."
        ),
    ] = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="One line for runs that differ in the seed only: mean ± standard deviation.")
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
    compared = _compared(runs, metric, mapping(sweep.record.get("search")) if sweep else {}, mean=mean)
    known = {*_ABOUT, *(key for line in compared.lines for key in (*line.settings, *line.numbers))}
    chosen = _chosen(columns, compared, known, mean=mean)
    if as_json or form == Format.json:
        print_json({"sweep_id": sweep.sweep_id if sweep else None, **as_data(compared, chosen, mean=mean)})
    elif form == Format.csv:
        _print_csv(compared, chosen)
    elif form == Format.markdown:
        _print_markdown(compared, chosen)
    else:
        what = f"sweep {sweep.sweep_id}" if sweep else f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        print(f"{what}: {_counted(compared.lines)}; best {compared.metric} on top")
        _print_text(compared, chosen)


def as_data(compared: Comparison, columns: Sequence[str], *, mean: bool) -> dict[str, Any]:
    """Return a comparison as plain data."""
    rows = []
    for line in compared.lines:
        about = {"runs": [run.run_id for run in line.runs], "states": line.states} if mean else _about(line.runs[0])
        settings = {key: line.settings.get(key) for key in compared.changed}
        wanted = [*NUMBERS, *(key for key in columns if key in line.numbers)]
        numbers = {key: _exact(line.numbers.get(key)) for key in dict.fromkeys(wanted)}
        spread = {"spread": {key: line.spread[key] for key in numbers if key in line.spread}} if mean else {}
        rows.append({**about, "settings": settings, **numbers, **spread, "winner": line.winner})
    better = "lower" if compared.smallest else "higher"
    return {"metric": compared.metric, "better": better, "changed": list(compared.changed), "rows": rows}


def _about(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "state": run.state,
        "note": run.note,
        "total_steps": run.total_steps,
    }


def _compared(runs: Sequence[Run], metric: str | None, search: Mapping[str, Any], *, mean: bool) -> Comparison:
    searched, direction = text(search.get("metric")), text(search.get("direction"))
    usual = usual_metric(run.last_rows.get("val", {}) for run in runs)
    metric = metric or searched or usual
    smallest = direction == "minimize" if direction and metric == searched else None
    compared = compare(runs, metric, smallest=smallest, merge_seeds=mean)
    measured = {key for run in runs for key in run.last_rows.get("val", {})}
    if measured and not any("best" in line.numbers for line in compared.lines) and metric != usual:
        raise ConfigurationError(f"--metric {metric}: validation has measured no such thing{nearest(metric, measured)}")
    return compared


def _chosen(given: str | None, compared: Comparison, known: set[str], *, mean: bool) -> list[str]:
    """Return the columns to print."""
    if given is None:
        who = "seeds" if mean else "run"
        return [who, *compared.changed, "state", "step", "loss", "best", "last", "consensus_distance", "wall_time_s"]
    named = [word.strip() for word in given.split(",") if word.strip()]
    aliases = {title: key for key, title in _TITLES.items()}
    aliases |= {compared.metric: "best"} if compared.metric not in NUMBERS else {}
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
        return "validation loss" if compared.metric == "loss" else compared.metric
    return _TITLES.get(column, column)


def _value(line: ComparisonRow, column: str) -> Any:
    """Return a cell as data."""
    if column == "run":
        return " ".join(run.run_id for run in line.runs)
    if column == "name":
        return line.runs[0].name
    if column == "state":
        return _counted([line]) if len(line.states) > 1 else stands(line.runs[0])
    if column == "seeds":
        return len(line.runs)
    return line.numbers.get(column, line.settings.get(column))


def _cell(line: ComparisonRow, column: str) -> str:
    """Return a cell as people read it."""
    value = _value(line, column)
    if column == "step" and len(line.runs) == 1:
        return progress(line.runs[0])
    if value is None:
        return "-"
    if column not in line.numbers:  # a setting; found by a search, it may have more digits than one wants to read
        return f"{value:.4g}" if isinstance(value, float) else written(value)
    show, spread = _SHOW.get(column, plain), line.spread.get(column)
    if not spread:
        return show(value)
    digits = decimals(value)
    same_digits = column not in _SHOW and spread >= 10**-digits
    return f"{show(value)} ± {f'{spread:.{digits}f}' if same_digits else _SHOW.get(column, small)(spread)}"


def _counted(lines: Sequence[ComparisonRow]) -> str:
    counts = {state: sum(line.states.get(state, 0) for line in lines) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _is_number(column: str, compared: Comparison) -> bool:
    return any(column in line.numbers for line in compared.lines) or column == "seeds"


# -- formats ----------------------------------------------------------------------------------------------------------
def _print_text(compared: Comparison, columns: Sequence[str]) -> None:
    titles = [_title(column, compared) for column in columns]
    winners = [number for number, line in enumerate(compared.lines) if line.winner]
    rows = [[_cell(line, column) for column in columns] for line in compared.lines]
    marks = ["*" if line.winner else "" for line in compared.lines]
    right = [title for title, column in zip(titles, columns, strict=True) if _is_number(column, compared)]
    print_table([*titles, ""], [[*row, mark] for row, mark in zip(rows, marks, strict=True)], right=right, bold=winners)


def _print_csv(compared: Comparison, columns: Sequence[str]) -> None:
    spread = {column for line in compared.lines for column in line.spread if column in columns}
    titles, rows = [], [[] for _ in compared.lines]  # type: ignore[var-annotated]
    for column in columns:
        titles.append(_title(column, compared))
        for row, line in zip(rows, compared.lines, strict=True):
            row.append(_raw(_value(line, column)))
        if column in spread:
            titles.append(f"{titles[-1]}_std")
            for row, line in zip(rows, compared.lines, strict=True):
                row.append(_raw(line.spread.get(column)))
    csv.writer(sys.stdout, lineterminator="\n").writerows([titles, *rows])


def _raw(value: Any) -> str:
    if value is None:
        return ""
    return clean(written(_exact(value)))


def _exact(value: Any) -> Any:
    """Return a number as one wrote it: whole ones, such as steps, without a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _print_markdown(compared: Comparison, columns: Sequence[str]) -> None:
    print(_piped([_title(column, compared) for column in columns]))
    print("|" + "|".join("---:" if _is_number(column, compared) else "---" for column in columns) + "|")
    for line in compared.lines:
        cells = {column: clean(_cell(line, column)).replace("|", "\\|") for column in columns}
        bold = {"best": f"**{cells['best']}**"} if line.winner and "best" in cells else {}
        print(_piped(list({**cells, **bold}.values())))


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
