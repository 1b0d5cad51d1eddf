"""The results tables of the page; its script sorts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from launcher.report import palette
from launcher.report.html.alignment import align
from launcher.report.report import Report
from launcher.report.table_rows import COLUMNS, Column, TableRow
from launcher.runs.number_format import format_std

_WITH_STD = ("best", "final")
"""Columns that show the standard deviation over a group's runs beside their mean."""
_GOOD, _BUSY, _IDLE = {"completed"}, {"running"}, {"queued", "cancelled", "preempted"}


def results_note(report: Report) -> str:
    """Return how to read the tables."""
    better = "lower" if report.objective.lower_is_better else "higher"
    seeds = (
        " Means ± sample standard deviations over seeds; the best configuration has the best mean."
        if report.seeds
        else ""
    )
    return f"Best and final validation {report.objective.label}, {better} is better.{seeds} Click a heading to sort."


def tables(report: Report) -> str:
    """Return a table of runs and, if some differ by their seed only, one of their groups."""
    order = report.ranking.order
    made = [_table(report, [report.runs[run] for run in order], "single", hidden=report.seeds)]
    if report.seeds:
        merged = sorted(report.merged, key=lambda row: min(order.index(member) for member in row.members))
        made.insert(0, _table(report, merged, "merged", hidden=False))
    return "\n".join(made)


def _table(report: Report, rows: Sequence[TableRow], mode: str, *, hidden: bool) -> str:
    keys = report.changed if mode == "single" else ()  # a group's name says it
    columns = [column for column in COLUMNS if any(column.key in row.numbers for row in rows)]
    numbers = [_number_cells(report, rows, column) for column in columns]
    lines = []
    for position, row in enumerate(rows):
        cells = [_name_cell(report, row)]
        cells += [
            f'<td class="left" data-title="{_quote(key)}" data-value="{_quote(value)}">{escape(value)}</td>'
            for key, value in zip(keys, _values(row, keys), strict=True)
        ]
        cells += [_state_cell(row), *(column[position] for column in numbers)]
        kind = ' class="winner"' if row.winner else ""
        lines.append(f'<tr{kind} data-runs="{" ".join(map(str, row.members))}">{"".join(cells)}</tr>')
    heads = _heads(report, mode, keys, columns)
    return (
        f'<div class="table" data-mode="{mode}"{" hidden" if hidden else ""}><table><thead><tr>{heads}</tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _heads(report: Report, mode: str, keys: Iterable[str], columns: Iterable[Column]) -> str:
    heads = [_head("Run" if mode == "single" else "Runs", "left", "ascending")]
    heads += [_head(key, "left", "ascending") for key in keys]
    heads += [_head("State", "left", "ascending")]
    best_first = "ascending" if report.objective.lower_is_better else "descending"
    by_score = mode == "merged" or not report.seeds  # single runs are below the mean of their configuration
    for column in columns:
        first = best_first if column.key in ("best", "final") else "descending"
        heads.append(_head(column.title, "", first, best_first if column.key == "best" and by_score else None))
    return "".join(heads)


def _number_cells(report: Report, rows: Sequence[TableRow], column: Column) -> list[str]:
    """Return a column's cells."""
    values = [row.numbers.get(column.key) for row in rows]
    texts = align(["–" if value is None else column.format(value) for value in values])
    cells = []
    for row, value, text in zip(rows, values, texts, strict=True):
        kind = ' class="none"' if value is None else ' class="best"' if column.key == "best" else ""
        sorted_by = "" if value is None else f' data-value="{value!r}"'
        title = f' data-title="{_quote(column.title)}"'
        cells.append(f"<td{kind}{title}{sorted_by}>{text}{_spread(report, row, column.key)}</td>")
    return cells


def _spread(report: Report, row: TableRow, key: str) -> str:
    """Return the standard deviation below a mean; empty where none is known."""
    std = row.spread.get(key) if key in _WITH_STD else None
    if std is None:
        return ""
    text = f"± {format_std(report.objective, std, row.numbers[key])}"
    return f'<span class="sub" title="sample standard deviation of {len(row.members)} seeds">{text}</span>'


def _head(title: str, kind: str, first: str, sorted_by: str | None = None) -> str:
    sort = f' aria-sort="{sorted_by}"' if sorted_by else ""
    return (
        f'<th scope="col" class="{kind}" data-first="{first}"{sort}><button type="button">{escape(title)}</button></th>'
    )


def _values(row: TableRow, keys: Iterable[str]) -> list[str]:
    return [row.changed.get(key, "") for key in keys]


def _name_cell(report: Report, row: TableRow) -> str:
    look = report.looks.groups[row.group]
    lengths = " ".join(f"{length:g}" for length in palette.DASHES[look.dash])
    dashes = f' stroke-dasharray="{lengths}"' if lengths else ""
    swatch = (
        '<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true"><line x1="1" y1="5" x2="21" y2="5" '
        f'stroke="var(--c{look.colour})" stroke-width="3"{dashes}/></svg>'
    )
    name = f'<span class="mono">{escape(row.run_id)}</span>' if row.run_id else escape(row.label)
    badge = '<span class="badge">best</span>' if row.winner else ""
    return f'<td class="left run" data-value="{_quote(row.run_id or row.label)}">{swatch}{name}{badge}</td>'


def _state_cell(row: TableRow) -> str:
    states = {word for word in row.state.replace(",", "").split() if not word.isdigit()}
    if states <= _GOOD:
        kind = "good"
    elif states - _GOOD - _BUSY - _IDLE:
        kind = "bad"
    else:
        kind = "busy" if states & _BUSY else ""
    error = f'<span class="error" title="{_quote(row.error)}">{escape(row.error)}</span>' if row.error else ""
    state = f'<span class="state {kind}">{escape(row.state)}</span>'
    return f'<td class="left" data-title="State" data-value="{_quote(row.state)}">{state}{error}</td>'


def _quote(value: str) -> str:
    return escape(value, quote=True)
