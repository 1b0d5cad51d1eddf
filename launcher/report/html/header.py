"""The top of the page: what was run, and the outcome in three numbers."""

from __future__ import annotations

from html import escape

from launcher.report import number_format
from launcher.report.panels import readable
from launcher.report.report import Report
from launcher.runs.metric_rows import lower_is_better


def shared(report: Report) -> str:
    """What holds for all runs."""
    facts = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in report.shared.items()
    )
    return f'<dl class="shared">{facts}</dl>' if facts else ""


def origin(report: Report) -> str:
    """Command line, when and where."""
    command, whence = report.origin.get("command"), report.origin.get("whence")
    parts = []
    if command:
        button = '<button type="button">Copy</button>'
        parts.append(f'<div class="command"><code>{escape(str(command))}</code>{button}</div>')
    if whence:
        parts.append(f'<p class="whence">{escape(str(whence))}</p>')
    return f'<div class="origin">{"".join(parts)}</div>' if parts else ""


def tiles(report: Report) -> str:
    """Best score, states, cost."""
    return "".join([_best_tile(report), _state_tile(report), _cost_tile(report)])


def _tile(what: str, value: str, detail: str) -> str:
    return (
        f'<div class="tile"><p class="what">{escape(what)}</p><p class="value">{escape(value)}</p>'
        f'<p class="detail">{detail}</p></div>'
    )


def _best_tile(report: Report) -> str:
    what = f"{'Lowest' if lower_is_better(report.metric) else 'Best'} validation {readable(report.metric)}"
    lines = report.merged if report.seeds else report.runs
    scored = [line for line in lines if "best" in line.numbers]
    if not scored:
        return _tile(what, "–", "no data yet")
    pick = min if lower_is_better(report.metric) else max
    score = pick(line.numbers["best"] for line in scored)
    tied = [line for line in scored if line.numbers["best"] == score]
    names = ", ".join(f"<b>{escape(line.label)}</b>" for line in tied[:3])
    more = f" and {len(tied) - 3} more" if len(tied) > 3 else ""
    best = tied[0]
    seeds = {len(line.members) for line in tied}
    where = f", mean of {len(best.members)} seeds" if seeds != {1} else ""
    if len(tied) == 1 and not where:
        where = f" at step {best.numbers['best_step']:,.0f}"
    return _tile(what, number_format.plain(score), names + more + where)


def _state_tile(report: Report) -> str:
    states = [record.state for record in report.records]
    if len(states) == 1:
        steps = report.runs[0].numbers.get("steps")
        return _tile("State", states[0], "no steps yet" if steps is None else f"{steps:,.0f} steps")
    counts = ", ".join(f"{states.count(state)} {escape(state)}" for state in dict.fromkeys(states))
    return _tile("Runs", str(len(states)), counts)


def _cost_tile(report: Report) -> str:
    times = [line.numbers["wall_time_s"] for line in report.runs if "wall_time_s" in line.numbers]
    sent = [line.numbers["bytes_sent"] for line in report.runs if "bytes_sent" in line.numbers]
    if not times:
        return _tile("Training time", "–", "no data yet")
    detail = f"{number_format.size(sum(sent))} sent by worker 0" if sent else ""
    return _tile(f"Training time{', all runs' if len(times) > 1 else ''}", number_format.duration(sum(times)), detail)
