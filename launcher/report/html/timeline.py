"""Where the time of a step goes: a section of the page for each run with a timeline."""

from __future__ import annotations

from html import escape

from launcher.report.report import Report
from launcher.runs.number_format import milliseconds
from launcher.runs.timeline import RunTimeline

_LINKS_SHOWN = 8


def timelines(report: Report) -> str:
    """Return the sections; empty if no run has a timeline."""
    several = len(report.records) > 1
    return "".join(
        _section(record.timeline, record.name if several else "") for record in report.records if record.timeline
    )


def _section(timeline: RunTimeline, name: str) -> str:
    remarks = "".join(f"<p><b>{escape(remark)}</b></p>" for remark in timeline.remarks())
    what = f"{name}: medians" if name else "Medians"
    note = f"{what} over {timeline.steps} recorded steps; timeline/ in the run folder opens in ui.perfetto.dev"
    workers = _table(
        ("Worker", "ms / step", "data", "compute", "wait", "send and mix"),
        [(str(w.rank), *map(_ms, (w.step, w.data, w.compute, w.wait, w.gossip))) for w in timeline.workers],
    )
    links = _table(
        ("Link", "ms / message", "messages"),
        [(f"{k.sender} to {k.receiver}", _ms(k.ms), str(k.messages)) for k in timeline.links[:_LINKS_SHOWN]],
    )
    return (
        '<section class="timeline"><div class="section-head"><h2>Where the step goes</h2>'
        f"<p>{escape(note)}</p></div>{remarks}{workers}{links if timeline.links else ''}</section>"
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col"{_left(index)}>{escape(word)}</th>' for index, word in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(f'<td{_left(index)}>{escape(cell)}</td>' for index, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return f'<div class="plain"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _left(index: int) -> str:
    return ' class="left"' if index == 0 else ""


def _ms(value: float) -> str:
    return milliseconds(value)
