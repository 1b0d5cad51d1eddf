"""The results table of the page; its script sorts it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from launcher.report import palette
from launcher.report.panels import readable
from launcher.report.report import Report
from launcher.report.results import COLUMNS, ResultRow
from launcher.runs.metric_rows import lower_is_better

_WITH_RANGE = ("best", "final")
"""Columns that show where a group's runs lie, and not only their mean."""
_GOOD, _BUSY, _IDLE = {"completed"}, {"running"}, {"queued", "cancelled", "preempted"}


def results_note(report: Report) -> str:
    """How to read the tables."""
    better = "lower" if lower_is_better(report.metric) else "higher"
    return f"Best and final validation {readable(report.metric)}, {better} is better. Click a heading to sort."


def tables(report: Report) -> str:
    """A table of runs and, if there are several seeds, one of their groups."""
    made = [_table(report, report.runs, "single", hidden=report.seeds)]
    if report.seeds:
        made.insert(0, _table(report, report.merged, "merged", hidden=False))
    return "\n".join(made)


def _table(report: Report, lines: Iterable[ResultRow], mode: str, *, hidden: bool) -> str:
    order = sorted(lines, key=lambda line: _rank(line, report.metric))
    keys = report.changed if mode == "single" else ()  # a group's name says it
    columns = [column for column in COLUMNS if any(column.key in line.numbers for line in order)]
    heads = [_head("Run" if mode == "single" else "Runs", "left", "ascending")]
    heads += [_head(key, "left", "ascending") for key in keys]
    heads += [_head("State", "left", "ascending")]
    first = {"best": "ascending", "final": "ascending"} if lower_is_better(report.metric) else {}
    for column in columns:
        sorted_by = first.get("best", "descending") if column.key == "best" else None
        heads.append(_head(column.title, "", first.get(column.key, "descending"), sorted_by))
    rows = []
    for line in order:
        cells = [_name_cell(report, line)]
        cells += [f'<td class="left" data-value="{_quoted(v)}">{escape(v)}</td>' for v in _values(line, keys)]
        cells += [_state_cell(line)]
        for column in columns:
            value = line.numbers.get(column.key)
            if value is None:
                cells.append('<td class="none">–</td>')
                continue
            low_high = line.spread.get(column.key) if column.key in _WITH_RANGE else None
            ends = [column.show(end) for end in low_high or ()]
            spread = f'<span class="sub">{escape("–".join(ends))}</span>' if ends and ends[0] != ends[1] else ""
            kind = ' class="best"' if column.key == "best" else ""
            cells.append(f'<td{kind} data-value="{value!r}">{escape(column.show(value))}{spread}</td>')
        kind = ' class="winner"' if line.winner else ""
        rows.append(f'<tr{kind} data-runs="{" ".join(map(str, line.members))}">{"".join(cells)}</tr>')
    return (
        f'<div class="table" data-mode="{mode}"{" hidden" if hidden else ""}><table><thead><tr>{"".join(heads)}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _rank(line: ResultRow, metric: str) -> tuple[bool, float]:
    best = line.numbers.get("best")
    return (best is None, (best if lower_is_better(metric) else -best) if best is not None else 0.0)


def _head(title: str, kind: str, first: str, sorted_by: str | None = None) -> str:
    sort = f' aria-sort="{sorted_by}"' if sorted_by else ""
    return (
        f'<th scope="col" class="{kind}" data-first="{first}"{sort}><button type="button">{escape(title)}</button></th>'
    )


def _values(line: ResultRow, keys: Iterable[str]) -> list[str]:
    return [line.changed.get(key, "") for key in keys]


def _name_cell(report: Report, line: ResultRow) -> str:
    colour, dash = palette.style(line.group)
    lengths = " ".join(f"{length:g}" for length in palette.DASHES[dash])
    dashes = f' stroke-dasharray="{lengths}"' if lengths else ""
    swatch = (
        '<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true"><line x1="1" y1="5" x2="21" y2="5" '
        f'stroke="var(--c{colour})" stroke-width="3"{dashes}/></svg>'
    )
    name = f'<span class="mono">{escape(line.run_id)}</span>' if line.run_id else escape(line.label)
    badge = '<span class="badge">best</span>' if line.winner else ""
    return f'<td class="left run" data-value="{_quoted(line.run_id or line.label)}">{swatch}{name}{badge}</td>'


def _state_cell(line: ResultRow) -> str:
    states = {word for word in line.state.replace(",", "").split() if not word.isdigit()}
    if states <= _GOOD:
        kind = "good"
    elif states - _GOOD - _BUSY - _IDLE:
        kind = "bad"
    else:
        kind = "busy" if states & _BUSY else ""
    error = f'<span class="error" title="{_quoted(line.error)}">{escape(line.error)}</span>' if line.error else ""
    state = f'<span class="state {kind}">{escape(line.state)}</span>'
    return f'<td class="left" data-value="{_quoted(line.state)}">{state}{error}</td>'


def _quoted(value: str) -> str:
    return escape(value, quote=True)
